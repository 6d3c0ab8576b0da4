"""The README's tables, from what the benches wrote: `python -m tests.bench.readme`.

    tests/bench/results.json  ->  README.md between <!-- bench --> and <!-- /bench -->
    tests/bench/restore.json  ->                    <!-- restore --> and <!-- /restore -->
    tests/bench/youtube8m.json ->                   <!-- youtube8m --> and <!-- /youtube8m -->

Measures nothing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import report, restore, run, youtube8m
from tests.bench.reading import report as reading
from tests.bench.restoring import report as restoring

README = run.REPOSITORY / "README.md"


class NoMarkers(Exception):
    """The README has no place for the table; the message says what to add."""


@dataclass(frozen=True, slots=True)
class Table:
    """One of the tables."""

    name: str  # of its markers
    results: Path
    made_by: str
    markdown: Callable[[Path], str]


TABLES = (
    Table("bench", run.RESULTS, "python -m tests.bench.run", lambda path: report.markdown(report.read(path))),
    Table("restore", restore.RESULTS, "python -m tests.bench.restore", lambda path: restoring.markdown(restoring.read(path))),
    Table("youtube8m", youtube8m.RESULTS, "python -m tests.bench.youtube8m", lambda path: reading.markdown(reading.read(path))),
)


def markers(name: str) -> tuple[str, str]:
    """The lines around a table."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def with_table(readme: str, name: str, table: str) -> str:
    """The README with a table between its markers.

    Raises:
        NoMarkers: they are not there once each and in order.
    """
    begin, end = markers(name)
    if readme.count(begin) != 1 or readme.count(end) != 1 or readme.index(begin) > readme.index(end):
        raise NoMarkers(f"the README needs one line {begin} and after it one line {end}; the table goes between them")
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Rewrite the tables."""
    text = README.read_text(encoding="utf-8")
    for table in TABLES:
        try:
            text = with_table(text, table.name, table.markdown(table.results))
        except FileNotFoundError as error:
            sys.exit(f"readme: {error.filename} is missing; run {table.made_by} first")
        except NoMarkers as missing:
            sys.exit(f"readme: {README}: {missing}")
    README.write_text(text, encoding="utf-8")
    print(f"wrote {' and '.join(table.results.name for table in TABLES)} into {README}")


if __name__ == "__main__":
    main()
