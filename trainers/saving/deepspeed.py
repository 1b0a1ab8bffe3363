"""DeepSpeed's own checkpoints, read without running what a pickle in them might say."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.serialization import safe_globals


@contextmanager
def weights_alone() -> Iterator[None]:
    """Let `torch.load` make nothing but tensors, plain values, and the four classes that DeepSpeed stores.

    DeepSpeed asks for whole pickles (`weights_only=False`), which run whatever code is in them. torch's environment
    variable overrules it, but would hold for other threads' loads, too, so it is set for the time of a load alone:
    https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler  # an extra
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        with safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]):
            yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
