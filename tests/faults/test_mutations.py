"""The list of protections stays true to the code; `python -m tests.faults.mutations` takes them out for real."""

import re
from pathlib import Path

from tests.faults.mutations import REPOSITORY, protections

PROMISES = {f"P{number}" for number in range(1, 13)}


def test_every_protection_is_there_once_and_so_is_its_test() -> None:
    for protection in protections():
        text = (REPOSITORY / protection.file).read_text(encoding="utf-8")
        assert text.count(protection.old) == 1, f"{protection.file}: {protection.old}"
        path, _, name = protection.test.partition("::")
        assert not name or f"def {name.partition('[')[0]}(" in (REPOSITORY / path).read_text(encoding="utf-8"), protection.test


def test_every_promise_is_named_by_a_test_that_breaks_it_and_has_a_protection() -> None:
    """P1 to P12 of DESIGN section 5."""
    named = {promise for path in Path(__file__).parent.glob("test_*.py") for promise in re.findall(r"\bP\d+\b", path.read_text(encoding="utf-8"))}
    assert named >= PROMISES
    assert {protection.promise for protection in protections()} == PROMISES
