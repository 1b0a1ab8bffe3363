"""Loads DeepSpeed's checkpoints without running code from their pickles."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils import patch_environment
from torch.serialization import safe_globals


@contextmanager
def weights_alone() -> Iterator[None]:
    """Make `torch.load` accept only tensors, plain values, and the four classes that DeepSpeed stores.

    Python before 3.11.4 pickles the member of an enum as a call of `getattr`. Only the members of one enum can be
    loaded in this way.

    DeepSpeed passes `weights_only=False`, with which a pickle can run any code. torch's environment variable overrides
    it, but also applies to other threads, so it is only set during the load:
    https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler  # an extra
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def member(cls: type, name: str) -> ZeroStageEnum:
        if cls is not ZeroStageEnum or name not in ZeroStageEnum.__members__:
            raise pickle.UnpicklingError(f"getattr({cls!r}, {name!r}) is not allowed, only members of ZeroStageEnum.")
        return ZeroStageEnum[name]

    allowed = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
    allowed += [(member, f"{module}.getattr") for module in ("builtins", "__builtin__")]
    with patch_environment(torch_force_weights_only_load=1), safe_globals(allowed):
        yield
