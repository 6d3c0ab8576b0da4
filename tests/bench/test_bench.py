"""The bench's own arithmetic, its counting of a process tree, its table, and what its hand-written contenders sample."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.bench import readme, report
from tests.bench.contenders.byhand import every_frame, sampled_frames
from tests.bench.fit import Round, agreement, fit, line, ratio
from tests.bench.readme import NoMarkers, markers, with_table
from tests.bench.run import BY_HAND, CONTENDERS, VIDMILL, arguments, command
from tests.bench.tree import measure
from tests.media import kinetics_like

BEGIN, END = markers("bench")
BURN = "import time\nwhile time.process_time() < {seconds}: pass"


def one(contender: str, clips: int, wall_s: float, cpu_s: float, *, number: int = 0, peak: float = 500.0) -> Round:
    """A round whose memory rarely matters."""
    return Round(contender, clips, number, wall_s, cpu_s, peak, {"driver": peak}, 3)


def rounds_of(contender: str, *, fixed_s: float, per_clip_s: float, peak: float = 500.0) -> list[Round]:
    """Three rounds on a known line, one of them disturbed."""
    rounds = [one(contender, n, fixed_s + per_clip_s * n, fixed_s + 2 * per_clip_s * n, number=k, peak=peak) for n in (60, 240) for k in range(2)]
    disturbed = [one(contender, n, 1000.0 * n, 900.0 * n, number=2, peak=peak + n) for n in (60, 240)]
    return rounds + disturbed


def found_results() -> report.Results:
    rounds = rounds_of("a", fixed_s=2.0, per_clip_s=0.1) + rounds_of("c", fixed_s=12.0, per_clip_s=0.08, peak=2000.0)
    contenders = {"a": CONTENDERS["a"], "c": CONTENDERS["c"]}
    long_shards = [report.LongShard(60, 2000.0, {"driver": 300.0}), report.LongShard(240, 2010.0, {"driver": 310.0})]
    return report.results(contenders, rounds, {"a": 1.0, "c": 0.99999}, [3.0, 5.0, 4.0], long_shards, command="python -m tests.bench.run")


def test_fixed_and_marginal_costs_come_back_from_a_known_line() -> None:
    found = fit("c", rounds_of("c", fixed_s=12.0, per_clip_s=0.08))
    assert found.fixed_s == pytest.approx(12.0)
    assert found.clips_per_s == pytest.approx(1 / 0.08)
    assert found.cpu_fixed_s == pytest.approx(12.0)
    assert found.cpu_s_per_clip == pytest.approx(0.16)
    assert found.peak_pss_mb == 740.0  # the worst round at the largest size


def test_a_third_size_is_fitted_by_least_squares() -> None:
    assert line({10: [1.0], 20: [2.5], 30: [3.0]}).per_clip_s == pytest.approx(0.1)
    assert line({10: [1.0], 20: [2.5], 30: [3.0]}).fixed_s == pytest.approx(1 / 6)


def test_one_size_makes_no_line() -> None:
    with pytest.raises(ValueError, match="two corpus sizes"):
        line({60: [1.0, 2.0]})


def test_a_speed_that_noise_swallowed_is_none_and_not_negative() -> None:
    found = fit("b", [one("b", 60, 30.0, 10.0), one("b", 240, 29.0, 20.0)])
    assert found.clips_per_s is None
    assert ratio(found, found).clips_per_s is None


def test_ratios_are_to_the_limit() -> None:
    limit, other = fit("a", rounds_of("a", fixed_s=2.0, per_clip_s=0.1)), fit("c", rounds_of("c", fixed_s=12.0, per_clip_s=0.08))
    found = ratio(other, limit)
    assert found.clips_per_s == pytest.approx(1.25)
    assert found.cpu_s_per_clip == pytest.approx(0.8)
    assert ratio(limit, limit).clips_per_s == 1.0


def test_agreement_is_that_of_the_worst_clip() -> None:
    expected = {"x": np.array([1.0, 0.0]), "y": np.array([0.0, 2.0])}
    assert agreement({"x": np.array([3.0, 0.0]), "y": np.array([1.0, 1.0])}, expected) == pytest.approx(0.5**0.5)
    with pytest.raises(ValueError, match="1 clips, expected 2"):
        agreement({"x": np.array([1.0, 0.0])}, expected)


def test_cpu_of_a_detached_grandchild_counts(tmp_path: Path) -> None:
    burn = BURN.format(seconds=1.0)
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)"
    cost = measure([sys.executable, "-c", leave], log=tmp_path / "log")
    assert cost.exit_code == 0
    assert cost.processes >= 2
    assert 0.9 < cost.cpu_s < 2.0


def test_cpu_of_a_child_that_was_waited_for_counts_once(tmp_path: Path) -> None:
    burn = BURN.format(seconds=1.0)
    cost = measure([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"], log=tmp_path / "log")
    assert 0.75 < cost.cpu_s < 1.7


def test_memory_is_the_sum_over_the_tree(tmp_path: Path) -> None:
    hold = "import time; held = bytearray(b'x') * (64 << 20); time.sleep(3)"
    cost = measure([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); {hold}"], log=tmp_path / "log")
    alone = measure(
        [sys.executable, "-c", f"import subprocess, sys\nc = subprocess.Popen([sys.executable, '-c', {hold!r}])\n{hold}"], log=tmp_path / "l2"
    )
    assert 64 < cost.peak_pss_mb < 100  # one after the other
    assert 128 < alone.peak_pss_mb < 180  # side by side
    assert alone.pss_mb["driver"] > 64
    assert alone.pss_mb["workers"] > 64


def test_a_failed_command_tells_its_exit_code(tmp_path: Path) -> None:
    assert measure([sys.executable, "-c", "raise SystemExit(7)"], log=tmp_path / "log").exit_code == 7


def test_results_survive_their_file(tmp_path: Path) -> None:
    found = found_results()
    report.write(found, tmp_path / "results.json")
    again = report.read(tmp_path / "results.json")
    assert again.rounds == found.rounds
    assert again.fits == found.fits
    assert report.markdown(again) == report.markdown(found)
    assert json.loads((tmp_path / "results.json").read_text())["versions"]["ray"]


def test_the_table_holds_the_figures() -> None:
    table = report.markdown(found_results()).splitlines()
    assert table[2].startswith(f"| {CONTENDERS['a']} (a) | 2.0 | 10.0 | 0.200 | 740 | 1.00 | 1.00 |")
    assert table[3].startswith("| vidmill (c) | 12.0 | 12.5 | 0.160 | 2,240 | 1.25 | 0.80 |")
    assert "vidmill with nothing to do: 4.0 s" in "\n".join(table)
    assert "2,000 MB with 60, 2,010 MB with 240" in "\n".join(table)
    assert "0.999990" in report.text(found_results())


def test_the_readme_keeps_everything_outside_the_markers() -> None:
    text = f"# vidmill\n{BEGIN}\nold\n{END}\nend\n<!-- restore -->\nother\n<!-- /restore -->\n"
    once = with_table(text, "bench", "| new |")
    assert once == text.replace("old", "| new |")
    assert with_table(once, "bench", "| new |") == once


@pytest.mark.parametrize("text", ["# vidmill\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_a_readme_without_its_markers_is_told(text: str) -> None:
    with pytest.raises(NoMarkers, match="needs one line"):
        with_table(text, "bench", "| new |")


def test_the_readme_command_ends_with_one_line_where_markers_or_results_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = dataclasses.replace(readme.TABLES[0], results=tmp_path / "results.json")
    monkeypatch.setattr(readme, "TABLES", (table,))
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("# vidmill\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"readme: .*results\.json is missing; run python -m tests\.bench\.run first"):
        readme.main()
    report.write(found_results(), tmp_path / "results.json")
    with pytest.raises(SystemExit, match=r"readme: .*README\.md: the README needs one line"):
        readme.main()
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    readme.main()
    assert "| vidmill (c) | 12.0 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "wrote results.json into" in capsys.readouterr().out


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments(["--clips", "240,60", "--only", "a,c"]).clips == (60, 240)
    for wrong in (["--clips", "60"], ["--only", "a,z"]):
        with pytest.raises(SystemExit):
            arguments(wrong)
    assert "choose from a, a2, b, c" in capsys.readouterr().err


def test_every_contender_has_a_command() -> None:
    assert {*BY_HAND, VIDMILL} == set(CONTENDERS)
    for name in CONTENDERS:
        assert "OUT" in command(name, Path("SHARDS"), Path("OUT"))


def test_skipping_frames_changes_no_sample() -> None:
    data = kinetics_like(seconds=3)
    everything, sampled = every_frame(data), sampled_frames(data)
    with av.open(io.BytesIO(data), "r") as container:
        expected = [frame.to_ndarray(format="rgb24") for index, frame in enumerate(container.decode(video=0)) if index % 30 == 0]
    assert len(expected) == 3
    for found in (everything, sampled):
        assert len(found) == len(expected)
        assert all(map(np.array_equal, found, expected))


def test_the_contenders_know_no_vidmill_code() -> None:
    code = "import sys, tests.bench.contenders.byhand, tests.bench.contenders.loop, tests.bench.contenders.ray_data; print(sorted(sys.modules))"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert not any(f"'{package}'" in loaded for package in ("flows", "tasks", "models", "infra"))
