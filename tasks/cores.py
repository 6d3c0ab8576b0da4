"""How many cores torch uses in one thread of this process."""

import torch


def use_cores(count: int) -> None:
    """Let torch's operations use so many cores in the calling thread, and in threads that begin later; in others all stays as it is.

    PyTorch keeps the number per thread, but a thread that has not asked for it yet takes what was set last anywhere; so ask.
    """
    torch.set_num_threads(count)
    torch.get_num_threads()
