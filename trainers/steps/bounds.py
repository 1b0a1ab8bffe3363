"""Clamps learnt scalars to their bounds after each optimizer step."""

import math

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ...modeling.losses import BoundedNumber


class KeepWithinBounds(TrainerCallback):
    """Clamps every `BoundedNumber` of the model."""

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Called by `Trainer` between the step and the next forward pass."""
        for module in model.modules():
            if isinstance(module, BoundedNumber):
                for copy in _copies(module.logarithm):
                    copy.clamp_(*map(math.log, module.bounds))


def _copies(parameter: nn.Parameter) -> list[Tensor]:
    """All tensors with a parameter's value, including DeepSpeed's float32 copies, from which each step starts.

    DeepSpeed's own `safe_set_full_fp32_param` can't set a parameter with fewer elements than ranks.
    """
    copies = [parameter.data]
    if getattr(parameter, "_hp_mapping", None) is not None:  # ZeRO-1 and 2, on the rank that updates it
        copies.append(parameter._hp_mapping.get_hp_fragment())
    if hasattr(parameter, "ds_id"):  # ZeRO-3
        copies += [parameter.ds_tensor.data, parameter._z3_optimizer.get_local_fp32_param(parameter)]
    return copies
