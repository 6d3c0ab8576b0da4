"""What commands print, at 80 columns, and that `--json` says the same."""

import io
from dataclasses import replace

from rich.console import Console

from flows.show import PlanView, WorkView, print_plan, print_summary, print_verification
from tasks.outcome import FailureGroup, FeatureOutcome
from tasks.record import CorpusCoverage, RunSummary
from tasks.verify import Fault, FeatureCheck, Verification

SUMMARY = RunSummary(
    run_id="r1", name="k400", output="out", status="done", shards=2, shards_published=1, clips=1200,
    features=(FeatureOutcome("clips", 1199, 1, 2),),
    failures=(FailureGroup("CORRUPT", 1, ("part_0.tar!a.mp4: decode CORRUPT: no index; fetch the file again",)),),
    coverage=CorpusCoverage(annotated=1300, present=1200, absent=110, unannotated=10, replaced=2, ignored=3),
    problems=(), elapsed_s=12.34,
)  # fmt: skip


def shown(print_it: object, *arguments: object) -> list[str]:
    screen = Console(file=io.StringIO(), width=80)
    print_it(arguments[0], screen, *arguments[1:])
    return screen.file.getvalue().splitlines()


def test_a_summary_ends_with_what_to_do_next() -> None:
    lines = shown(print_summary, SUMMARY)
    assert lines[-3:] == [
        "1,300 clips annotated: 110 absent; 1,200 present: 10 unannotated, 2 replaced; 3 other files ignored",
        "done: 1,200 clips in 12.3 s, 1 of 2 shards published by this run",
        "next: vidmill status out",
    ]
    assert any("CORRUPT: no index; fetch the file again" in line for line in lines)


def test_what_was_tagged_from_stored_embeddings_is_counted_apart() -> None:
    line = "done: 0 clips, 7 tagged, 1,200 enhanced in 12.3 s, 1 of 2 shards published by this run"
    assert line in shown(print_summary, replace(SUMMARY, clips=0, tagged=7, enhanced=1200))


def test_what_should_be_known_is_noted() -> None:
    assert "note: out: this store ignores conditions" in shown(print_summary, replace(SUMMARY, notices=("out: this store ignores conditions",)))


def test_an_output_that_cannot_be_read_shows_no_counts() -> None:
    lines = shown(
        print_summary, replace(SUMMARY, status="work left", features=(), coverage=CorpusCoverage(0, 0, 0, 0, 0, 0), problems=("s3://x: busy",))
    )
    assert lines[0] == "left: s3://x: busy"
    assert lines[-1] == "next: run the same command again to go on; finished work is kept"


def test_nothing_to_do_says_so_without_rates() -> None:
    lines = shown(print_summary, replace(SUMMARY, status="nothing to do", clips=0, shards=1))
    assert lines[-2] == "nothing to do: 1 shard published already, for every feature asked for"


def test_work_left_and_too_many_failures_say_why_and_how_to_go_on() -> None:
    left = shown(print_summary, replace(SUMMARY, status="work left", problems=("part_1: no space left; free some space",)))
    assert "left: part_1: no space left; free some space" in left
    assert left[-1] == "next: run the same command again to go on; finished work is kept"
    failed = shown(print_summary, replace(SUMMARY, status="too many failures"))
    assert failed[-1].startswith("next: vidmill status out; mend the source, or raise --limits.max-failed")
    empty = shown(print_summary, replace(SUMMARY, status="work left", coverage=CorpusCoverage(0, 0, 0, 0, 0, 2)))
    assert empty[-1] == "next: correct the source, then run the same command again"


def test_what_a_backfill_left_out_and_what_is_no_fault_is_said() -> None:
    partial = FeatureCheck("embeddings/model=m/version=v", 1, 7, 1, omitted=2, partial=True)
    assert shown(print_verification, Verification("r1", [partial], files=1, notes=["media/x: 2 files that no row names"])) == [
        "embeddings/model=m/version=v: 7 rows + 1 failures + 2 left out by a selection in 1 shard, others need none",
        "note: media/x: 2 files that no row names",
        "1 file unaltered; every planned clip is one row or one failure, none twice",
    ]


def test_a_long_plan_is_cut_and_names_the_command() -> None:
    work = tuple(WorkView(f"part_{n}", 1_500_000, ("clips", "tags m@1a")) for n in range(12))
    lines = shown(print_plan, PlanView("k", "kinetics /c", "out", 13, 1, 18_000_000, work), "vidmill run k.yaml")
    assert lines[:3] == ["kinetics /c -> out", "13 shards, 1 done, 12 to do (18 MB to read)", "  part_0 (1.5 MB): clips, tags m@1a"]
    assert lines[-2:] == ["  and 2 more", "next: vidmill run k.yaml"]
    assert shown(print_plan, PlanView("k", "kinetics /c", "out", 1, 1, 0, ()), "x")[-1] == "nothing to do"


def test_a_verification_proves_or_lists_faults() -> None:
    whole = Verification("r1", [FeatureCheck("clips", 1, 7, 1)], files=2)
    assert shown(print_verification, whole) == [
        "clips: 7 rows + 1 failures in 1 shard",
        "2 files unaltered; every planned clip is one row or one failure, none twice",
    ]
    fault = Fault("out/clips/a\x1b[2J.parquet", "is not published", "vidmill retry out --select state:missing")
    assert shown(print_verification, Verification("r1", [], [fault])) == [
        "fault: out/clips/a\\x1b[2J.parquet: is not published; vidmill retry out --select state:missing",
        "1 fault",
    ]
