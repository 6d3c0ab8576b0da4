"""The README's picture: `python -m tests.bench.picture` runs `vidmill demo` and draws what it prints.

vidmill demo (stdout)  ->  tests/bench/demo.svg
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).with_name("demo.svg")
COLUMNS = 100
HOME = "/home/you"  # in place of a folder whose name is another one each time


def main() -> None:
    """Run the demo in a fresh folder and draw its result."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("vidmill")), "demo"]
        done = subprocess.run(command, cwd=folder, env=os.environ | {"COLUMNS": str(COLUMNS)}, capture_output=True, text=True, check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ vidmill demo\n", "bold"), done.stdout.replace(os.path.realpath(folder), HOME).strip()))
    console.save_svg(str(PICTURE), title="vidmill demo")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
