"""Serves process-corpus to a Prefect server, as a team's machine would: `python -m tests.faults.serve`. Prints the deployment's id."""

import asyncio

from prefect.runner import Runner

from flows.process_corpus import process_corpus


async def main() -> None:
    """Serve until killed."""
    runner = Runner(name="served", query_seconds=1)
    print(await runner.aadd_flow(process_corpus, name="served"), flush=True)
    await runner.start()


if __name__ == "__main__":
    asyncio.run(main())
