"""Loads DeepSpeed's checkpoints without running code from their pickles."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.serialization import safe_globals


@contextmanager
def weights_alone() -> Iterator[None]:
    """Make `torch.load` accept only tensors, plain values, and the four classes that DeepSpeed stores.

    DeepSpeed passes `weights_only=False`, with which a pickle can run any code. torch's environment variable overrides
    it, but also applies to other threads, so it is only set during the load:
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
