"""How ranks leave their process group."""

import time

from accelerate import PartialState

# Seconds that gloo's threads need to release the last collective (see `meet_before_leaving`).
_LETTING_GO = 0.2


def leave_process_group() -> None:
    """Leave the process group, if there is one, at the end of a program. All ranks must call it."""
    meet_before_leaving()
    PartialState().destroy_process_group()


def meet_before_leaving() -> None:
    """Wait for all ranks, and then for a moment in which gloo's threads can take the GIL.

    If the group is destroyed while such a thread still holds a finished collective, both wait for each other forever
    (https://github.com/pytorch/pytorch/issues/56297). No call tells when the thread has released it.
    """
    state = PartialState()
    state.wait_for_everyone()
    if state.num_processes > 1:
        time.sleep(_LETTING_GO)
