"""Clips that crash, hang or bomb their decoder, between healthy ones, through the whole program: each is one failure and stops nothing else."""

from collections import Counter
from pathlib import Path

from tasks.verify import verify
from tests.corpus import clip, name_of, table, write_tar
from tests.faults.hostile_media import endless, greedy
from tests.flows.program import vidmill
from tests.poison.clips import environment, poisoned

CLIPS = 100
POISON = {"segfault": 3, "abort": 2, "hang": 1, "pause": 2, "endless": 2, "eat": 3, "greedy": 2}
WHOLE = {"endless": endless, "greedy": greedy}  # media that need no mark to do it to libav itself
KINDS = {"CRASH": 5, "TIMEOUT": 5, "TOO_LARGE": 5}


def write_corpus(folder: Path) -> dict[str, str]:
    """Four shards of 25 clips; what each poisonous clip does."""
    acts = [act for act, count in POISON.items() for _ in range(count)]
    poison = {name_of(7 * place): act for place, act in enumerate(acts)}
    names = [name_of(number) for number in range(CLIPS)]
    for shard in range(4):
        members = {name: _clip(number % 5, poison.get(name)) for number, name in enumerate(names)}
        write_tar(folder / f"part_{shard}.tar.gz", {f"{name}.mp4": members[name] for name in names[25 * shard : 25 * shard + 25]})
    return poison


def _clip(seed: int, act: str | None) -> bytes:
    if act in WHOLE:
        return WHOLE[act]()
    return poisoned(clip(seed), act) if act else clip(seed)


def test_a_hundred_clips_with_fifteen_poisonous_ones_are_eighty_five_rows(tmp_path: Path) -> None:
    """P6, P9: decoded in the actor itself (tasks.infer calling tasks.decode), the first crash would take the actor and its models with it."""
    poison = write_corpus(tmp_path / "corpus")
    limits = ["--limits.clip-timeout-s", 3, "--limits.max-memory-bytes", 512 << 20, "--limits.max-failed", 15]
    source = ["--source.kind", "kinetics", "--source.uri", f"{tmp_path}/corpus/*.tar.gz"]
    code, out, err = vidmill("run", *source, "--output", "out", *limits, "--tag", "efficientnet-lite0", cwd=tmp_path, **environment())
    assert code == 0, err
    failures = table(tmp_path / "out", "failures").to_pylist()
    assert {row["clip_id"]: row["stage"] for row in failures} == dict.fromkeys(poison, "decode")
    assert Counter(row["kind"] for row in failures) == KINDS
    assert {row["attempts"] for row in failures} <= {1, 3}
    for folder in ("clips", "embeddings", "tags"):
        assert table(tmp_path / "out", folder)["clip_id"].to_pylist() == sorted({name_of(k) for k in range(CLIPS)} - set(poison))
    assert not verify(str(tmp_path / "out")).faults
    assert "100 clips" in out
