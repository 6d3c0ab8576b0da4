"""What `vidmill submit` has run on the cluster: `python -m flows.job CONFIG.json`.

Ray keeps one log of stdout and stderr, so the summary travels in it as a line that begins with RESULT. Knows nothing of Ray's jobs.
"""

import io
import json
import signal
import sys
from contextlib import redirect_stdout
from typing import Final, NoReturn

from flows.cli import execute

RESULT: Final = "vidmill result: "


def main() -> NoReturn:
    """Run, say the result, exit as `vidmill run` does; `ray job stop` sends SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with redirect_stdout(io.StringIO()) as said:
        code = execute(["run", sys.argv[1], "--json"])
    if text := said.getvalue():
        print(f"{RESULT}{json.dumps(json.loads(text))}", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
