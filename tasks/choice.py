"""Choices: which clips a backfill takes, by the same grammar as a retry's selectors.

    shard:part_7*                       every clip of these shards
    label:"juggling balls",split:train  clips whose row of `clips` meets both; any of its columns, and clip: and video: for their ids
    missing:                            shards that have no file of the feature; missing:clips, those whose file lacks clips

Several mean any of them, none means every clip. Knows the columns of `clips` and how to compare them; reads nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from infra.problem import Problem
from tasks.select import Selector, selector_of, unknown_key

Lacks = Literal["", "shards", "clips"]  # of a feature, a shard: nothing as far as its footer tells, all, some clips

OF_SHARDS = ("shard", "missing")
SHORT = {"clip": "clip_id", "video": "video_id"}
MISSING = ("shards", "clips")


@dataclass(frozen=True, slots=True)
class Choice:
    """Any of some selectors; every clip where there are none."""

    texts: tuple[str, ...] = ()
    selectors: tuple[Selector, ...] = ()

    def of_shard(self, shard: str, lacks: Lacks) -> tuple[Selector, ...] | None:
        """The conditions on clips of a shard, any of which must be met; empty: it is taken whole. None: nothing of it is taken."""
        if not self.selectors:
            return ()
        values = {"shard": shard, "missing": lacks}
        fitting = [_of_clips(selector) for selector in self.selectors if selector.meets(values)]
        if not fitting:
            return None
        return () if any(not selector.conditions for selector in fitting) else tuple(fitting)

    def check(self, columns: Sequence[str]) -> None:
        """Raise Problem where a condition is on a column that `clips` does not have."""
        known = [*OF_SHARDS, *SHORT, *columns]
        for text, selector in zip(self.texts, self.selectors, strict=True):
            for key, _ in selector.conditions:
                if key not in known:
                    raise unknown_key(text, key, known)


def choice_of(texts: Sequence[str]) -> Choice:
    """Read what was given with `--select`.

    Raises:
        Problem: it is no selector, or `missing:` asks for what there is not.
    """
    return Choice(tuple(texts), tuple(map(_selector, texts)))


def columns_of(selectors: Sequence[Selector]) -> list[str]:
    """Columns of `clips` that the conditions are on."""
    return sorted({SHORT.get(key, key) for selector in selectors for key, _ in selector.conditions})


def meets_any(clips: pa.Table, selectors: Sequence[Selector]) -> pa.ChunkedArray:
    """Which rows of `clips`, with the columns of `columns_of`, meet one of these: bool per row."""
    nothing = pa.chunked_array([pa.repeat(False, clips.num_rows)])
    return reduce(pc.or_, (_meets_all(clips, selector) for selector in selectors), nothing)


def _selector(text: str) -> Selector:
    selector = selector_of(text, ())
    named = [(key, _missing(text, value) if key == "missing" else value) for key, value in selector.conditions]
    return Selector(tuple(named))


def _missing(text: str, value: str) -> str:
    if value and value not in MISSING:
        raise Problem(
            f"--select {text}: missing:{value} is nothing; missing: or missing:shards takes shards without a file, missing:clips the others"
        )
    return value or MISSING[0]


def _of_clips(selector: Selector) -> Selector:
    return Selector(tuple((key, value) for key, value in selector.conditions if key not in OF_SHARDS))


def _meets_all(clips: pa.Table, selector: Selector) -> pa.ChunkedArray:
    every = pa.chunked_array([pa.repeat(True, clips.num_rows)])
    return reduce(pc.and_, (_fits(clips[SHORT.get(key, key)], pattern) for key, pattern in selector.conditions), every)


def _fits(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray | pa.Array:
    """Compares each distinct value once: a corpus has few labels. A list fits by any of its values."""
    if pa.types.is_list(column.type):
        rows = [found if found is None else any(_text_fits(value, pattern) for value in found) for found in column.to_pylist()]
        return pa.array([bool(fits) for fits in rows], pa.bool_())
    wanted = [value for value in pc.unique(column).to_pylist() if _text_fits(value, pattern)]
    return pc.is_in(column, value_set=pa.array(wanted, column.type))


def _text_fits(value: object, pattern: str) -> bool:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, default=str)
    return fnmatchcase(text, pattern)
