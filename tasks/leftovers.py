"""What a killed run leaves of the files it was about to publish: temporary files on disk, unfinished uploads in S3.

Knows where vidmill writes below an output. Staged rows are no leftovers, they are work done, until they are published.
"""

from infra import storage
from tasks.plan import RunPlan, staged_in_vain
from tasks.published import FAILURES_FOLDER

# Not the output itself: somebody may upload other things to the same bucket. On disk all temporary files lie in the first two.
FOLDERS = ("_wip/tmp", "_wip", "_runs", FAILURES_FOLDER, "clips", "embeddings", "tags", "enhanced", "media")


def delete_leftovers(output: str) -> int:
    """Delete them, and say how many there were; only for the holder of the output's lease, while nothing of its own is being written.

    Raises:
        StorageError: the store cannot list uploads, or does not allow it.
    """
    return sum(storage.sweep(f"{output.rstrip('/')}/{folder}") for folder in FOLDERS)


def delete_published_staging(plan: RunPlan) -> None:
    """Delete what is staged of shards that need nothing; only for the holder of the output's lease, before anything is staged."""
    for staging in staged_in_vain(plan):
        staging.clear(plan.features)
