"""Selectors: which failures, files or shards a retry redoes; `tasks.choice` reads those of a backfill by the same grammar.

    kind:TIMEOUT                 every failure of that kind
    shard:part_7*,stage:decode   failures that meet both
    state:altered                files that verify finds altered or unreadable; state:missing what no file is published of

Several selectors mean any of them. Knows the failures' table; reads nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from infra.problem import Problem
from tasks.clip import FailureKind

STATES = ("failed", "altered", "missing")
KEYS = ("kind", "shard", "stage", "state", "clip", "member")
OF_FAILURES = ("kind", "stage", "clip", "member")  # keys that only a failure has
WITHOUT_VALUE = ("missing",)  # keys that say something by themselves
_PARTS = re.compile(r",(?=[A-Za-z_]+:)")  # a value may hold commas
_SPECIAL = re.compile(r"[*?\[,]")


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that must all be met; each value may be a glob."""

    conditions: tuple[tuple[str, str], ...]

    def is_in(self, state: str) -> bool:
        """Whether it selects in this state; a selector that names none selects failures."""
        named = [value for key, value in self.conditions if key == "state"]
        return all(fnmatchcase(state, value) for value in named) if named else state == "failed"

    def meets(self, values: Mapping[str, object]) -> bool:
        """Whether the values of these keys fit; keys that are absent are not asked."""
        return all(fnmatchcase(str(values[key] or ""), value) for key, value in self.conditions if key in values)


@dataclass(frozen=True, slots=True)
class Selection:
    """Any of some selectors."""

    selectors: tuple[Selector, ...]

    def takes(self, failure: Mapping[str, object], shard: str) -> bool:
        """Whether a row of the failures' table is selected."""
        values = {"kind": failure["kind"], "stage": failure["stage"], "clip": failure["clip_id"], "member": failure["member"], "shard": shard}
        return any(selector.is_in("failed") and selector.meets(values) for selector in self.selectors)

    def takes_failures_of(self, shard: str) -> bool:
        """Whether failures of the shard can be selected."""
        return self._takes(shard, "failed")

    def takes_missing_of(self, shard: str) -> bool:
        """Whether what is missing of the shard is selected; what was altered is missing once it is deleted."""
        return self._takes(shard, "missing") or self.takes_altered_of(shard)

    def takes_altered_of(self, shard: str) -> bool:
        """Whether altered files of the shard are selected."""
        return self._takes(shard, "altered")

    def takes_altered(self) -> bool:
        """Whether altered files can be selected at all."""
        return any(selector.is_in("altered") for selector in self.selectors)

    def _takes(self, shard: str, state: str) -> bool:
        return any(selector.is_in(state) and selector.meets({"shard": shard}) for selector in self.selectors)


def selection_of(texts: Sequence[str]) -> Selection:
    """Read what was given with `--select`.

    Raises:
        Problem: a key, kind or state that there is not; the message says what there is.
    """
    if not texts:
        raise Problem(f"--select: is missing; name what to redo, such as kind:TIMEOUT ({_allowed(KEYS)})")
    return Selection(tuple(_of_failures(text) for text in texts))


def exactly(value: str) -> str:
    """A glob that only this value fits, also where it has commas."""
    return _SPECIAL.sub(lambda found: f"[{found[0]}]", value)


def selector_of(text: str, keys: Sequence[str]) -> Selector:
    """Read one selector; a value may stand in double quotes.

    Args:
        text: as it was given.
        keys: that there are; none where only the output tells.

    Raises:
        Problem: it is not KEY:VALUE[,KEY:VALUE...], or a key is none of `keys`.
    """
    return Selector(tuple(_condition(text, part, keys) for part in _PARTS.split(text)))


def unknown_key(text: str, key: str, keys: Sequence[str]) -> Problem:
    """What to say of a key that there is not."""
    return Problem(f"--select {text}: {key} is not a key; one of {', '.join(keys)}{_nearest(key, keys)}")


def _of_failures(text: str) -> Selector:
    selector = selector_of(text, KEYS)
    for key, value in selector.conditions:
        _check_value(text, key, value)
    useless = next((key for key, _ in selector.conditions if key in OF_FAILURES), None)
    if useless and not selector.is_in("failed"):
        raise Problem(f"--select {text}: {useless} is a matter of failures, and these are altered or missing files; combine state with shard only")
    return selector


def _condition(text: str, part: str, keys: Sequence[str]) -> tuple[str, str]:
    key, colon, value = part.partition(":")
    if not colon or not (value or key in WITHOUT_VALUE):
        raise Problem(f"--select {text}: {part!r} is not KEY:VALUE; {_allowed(keys)}")
    if keys and key not in keys:
        raise unknown_key(text, key, keys)
    return key, value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _check_value(text: str, key: str, value: str) -> None:
    known = {"kind": [kind.value for kind in FailureKind], "state": STATES}.get(key)
    if known and not any(fnmatchcase(name, value) for name in known):
        raise Problem(f"--select {text}: there is no {key} {value}; one of {', '.join(known)}{_nearest(value, known)}")


def _allowed(keys: Sequence[str]) -> str:
    named = f"keys are {', '.join(keys)}" if keys else "keys are shard, missing and the columns of clips, such as label"
    return f"{named}; values may be globs, a comma means and"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name.lower(), [word.lower() for word in known], n=1)
    return f"; did you mean {next(word for word in known if word.lower() == near[0])}?" if near else ""
