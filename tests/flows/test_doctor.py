"""The doctor really tries: what is broken is FAILED with its cause, what works says what was seen."""

import json
from pathlib import Path
from typing import NoReturn

import pytest

from flows import cli, doctor
from flows.doctor import Check, examine
from tests.corpus import config_for, files, write_shards
from tests.tasks.taggers import RECORDS, entry, tagger

Screen = pytest.CaptureFixture[str]


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_healthy_machine_passes_and_nothing_stays(ray_here: None, tmp_path: Path, capsys: Screen) -> None:
    write_shards(tmp_path, shards=1, clips=1)
    arguments = ["--source.kind", "kinetics", "--source.uri", str(tmp_path / "part_0.tar.gz"), "--output", str(tmp_path / "out")]
    arguments += ["--enhance", "denoise"]
    assert cli.execute(["doctor", *arguments, "--json"]) == cli.DONE
    out = capsys.readouterr().out
    found = {check["name"]: check for check in json.loads(out[out.index("[\n") :])}  # this process's Ray may have said something before
    assert list(found) == ["machine", "decode", "model efficientnet-lite0", "recipe denoise", "ray", "source", "output"]
    assert all(check["ok"] for check in found.values())
    assert "2 of 20 frames" in found["decode"]["found"]
    assert "1280 numbers and 1000 classes" in found["model efficientnet-lite0"]["found"]
    assert "20 frames restored to 64x64, written by libx264" in found["recipe denoise"]["found"]
    assert "1 shards" in found["source"]["found"]
    assert not files(tmp_path / "out")


def test_each_broken_thing_is_its_own_failed_line(ray_here: None, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    model = {"name": "mine", "factory": "torch.nn:Identity", "weights": f"file:{broken}", "sha256": "0" * 64}
    own = {"recipe": "upscale-x2", "weights": f"file:{broken}", "sha256": "0" * 64}
    source = {"kind": "kinetics", "uri": str(tmp_path / "gone.tar")}
    found = by_name(examine(config_for(source, "/sys/vidmill", embed=["mine", "no-such-model"], models=[model], enhance=[own])))
    assert {name for name, check in found.items() if not check.ok} == {"model mine", "model no-such-model", "recipe upscale-x2", "source", "output"}
    assert "broken.pth" in found["model mine"].found
    assert "broken.pth" in found["recipe upscale-x2"].found
    assert "no such model" in found["model no-such-model"].found
    assert "gone.tar: not found; check the spelling" in found["source"].found
    assert "permission denied; check owner and mode" in found["output"].found
    assert all("\n" not in check.found for check in found.values())


def test_a_tagger_is_loaded_and_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_start_ray", lambda _: "not asked here")
    (tmp_path / "broken").write_bytes(b"no tagger")
    models = [entry(tagger(tmp_path / "t.safetensors", *RECORDS)), entry(tmp_path / "broken", "other")]
    found = by_name(examine(config_for({"kind": "youtube8m", "uri": str(tmp_path)}, tmp_path / "out", tag=["mine", "other"], models=models)))
    assert found["tagger mine"].found.startswith("weights verified, 2 frames of yt8m-inception3 + yt8m-vggish gave 7 scores on ")
    assert not found["tagger other"].ok
    assert "tagger " in found["tagger other"].found


def test_a_bug_in_a_check_is_a_failed_check(ray_here: None, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    def fall() -> NoReturn:
        raise RuntimeError("the codec is gone\nwith details")

    monkeypatch.setattr(doctor, "_decode", fall)
    assert cli.execute(["doctor"]) == cli.USAGE
    lines = capsys.readouterr().out.splitlines()
    assert "FAILED decode: RuntimeError: the codec is gone" in lines
    assert lines[-1] == "next: mend what FAILED, then run vidmill doctor again"
    assert any(line.startswith("ok     disk: wrote, read back and deleted") for line in lines)
