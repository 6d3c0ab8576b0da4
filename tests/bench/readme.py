"""The README's speed table, from what the bench wrote: `python -m tests.bench.readme`.

    tests/bench/results.json  ->  README.md between <!-- bench --> and <!-- /bench -->

Measures nothing.
"""

import sys

from tests.bench import report
from tests.bench.run import REPOSITORY, RESULTS

README = REPOSITORY / "README.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


class NoMarkers(Exception):
    """The README has no place for the table; the message says what to add."""


def with_table(readme: str, table: str) -> str:
    """The README with the table between its markers.

    Raises:
        NoMarkers: they are not there once each and in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise NoMarkers(f"the README needs one line {BEGIN} and after it one line {END}; the table goes between them")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Rewrite the table."""
    try:
        found = report.read(RESULTS)
        README.write_text(with_table(README.read_text(encoding="utf-8"), report.markdown(found)), encoding="utf-8")
    except FileNotFoundError as error:
        sys.exit(f"readme: {error.filename} is missing; run python -m tests.bench.run first")
    except NoMarkers as missing:
        sys.exit(f"readme: {README}: {missing}")
    print(f"wrote the table of {found.date[:10]} into {README}")


if __name__ == "__main__":
    main()
