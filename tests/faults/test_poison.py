"""Clips that crash, hang or bomb their decoder, between healthy ones, through the whole program: each is one failure and stops nothing else."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.verify import verify
from tests.corpus import clip, name_of, table, write_tar
from tests.faults.hostile_media import endless, greedy
from tests.flows.program import vidmill
from tests.poison.clips import environment, poisoned

ACTS = {"segfault": "CRASH", "abort": "CRASH", "hang": "TIMEOUT", "endless": "TIMEOUT", "eat": "TOO_LARGE", "greedy": "TOO_LARGE"}
FEW = [*ACTS]
MANY = [*FEW, *FEW, "segfault", "pause", "pause"]
WHOLE = {"endless": endless, "greedy": greedy}  # media that need no mark to do it to libav itself


def write_corpus(folder: Path, acts: Sequence[str]) -> dict[str, str]:
    """Two shards, a poisonous clip before every six healthy ones; what each poisonous clip does."""
    poison = {name_of(7 * place): act for place, act in enumerate(acts)}
    names = [name_of(number) for number in range(7 * len(acts))]
    members = {f"{name}.mp4": _clip(number % 5, poison.get(name)) for number, name in enumerate(names)}
    for shard in range(2):
        write_tar(folder / f"part_{shard}.tar.gz", {name: data for place, (name, data) in enumerate(members.items()) if place % 2 == shard})
    return poison


def _clip(seed: int, act: str | None) -> bytes:
    if act in WHOLE:
        return WHOLE[act]()
    return poisoned(clip(seed), act) if act else clip(seed)


@pytest.mark.parametrize("acts", [pytest.param(FEW, id="6 of 42"), pytest.param(MANY, id="15 of 105", marks=pytest.mark.nightly)])
def test_each_poisonous_clip_is_a_failure_and_every_other_one_a_row(tmp_path: Path, acts: list[str]) -> None:
    """P6, P9: decoded in the actor itself (tasks.infer calling tasks.decode), the first crash would take the actor and its models with it."""
    poison = write_corpus(tmp_path / "corpus", acts)
    limits = ["--limits.clip-timeout-s", 3, "--limits.max-memory-bytes", 512 << 20, "--limits.max-failed", len(acts)]
    source = ["--source.kind", "kinetics", "--source.uri", f"{tmp_path}/corpus/*.tar.gz"]
    code, out, err = vidmill("run", *source, "--output", "out", *limits, "--tag", "efficientnet-lite0", cwd=tmp_path, **environment())
    assert code == 0, err
    failures = table(tmp_path / "out", "failures").to_pylist()
    assert {row["clip_id"]: row["stage"] for row in failures} == dict.fromkeys(poison, "decode")
    assert Counter(row["kind"] for row in failures) == Counter(ACTS.get(act, "TIMEOUT") for act in acts)
    assert {row["attempts"] for row in failures} <= {1, 3}
    for folder in ("clips", "embeddings", "tags"):
        assert table(tmp_path / "out", folder)["clip_id"].to_pylist() == sorted({name_of(k) for k in range(7 * len(acts))} - set(poison))
    assert not verify(str(tmp_path / "out")).faults
    assert f"{7 * len(acts)} clips" in out
