"""Frozen teachers whose parameters are sharded over the ranks."""

import copy
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from ...modeling import layers_in_order
from ...modeling.encoding import EncoderOutput, encode


def shard_by_zero(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Shard a frozen teacher with ZeRO-3, in place.

    Like TRL's `prepare_deepspeed`, this uses the student's configuration without the settings for training (an
    offloaded optimizer crashes here, https://github.com/huggingface/trl/pull/5916), and with bucket sizes as integers,
    since "auto" is not resolved yet.
    """
    import deepspeed

    config = copy.deepcopy(accelerator.state.deepspeed_plugin.deepspeed_config)
    for training_only in ("optimizer", "scheduler"):
        config.pop(training_only, None)
    zero = config["zero_optimization"]
    zero.pop("offload_optimizer", None)
    width = model.config.hidden_size
    zero |= {
        "reduce_bucket_size": width * width,
        "stage3_param_persistence_threshold": 10 * width,
        "stage3_prefetch_bucket_size": width * width,
    }
    deepspeed.initialize(model=model, config=config)


class FullyShardedTeacher(nn.Module):
    """A frozen teacher that FSDP2 shards layer by layer.

    FSDP2 gathers parameters around the forward of the modules that it shards, and `encode` calls parts of a model. So
    it shards this module, which calls `encode`.

    Args:
        model: the teacher, whole, on any device. It is changed in place.
        device: the device of this rank.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device):
        super().__init__()
        self.model = model
        # Buffers are not sharded. Parameters go to the device one layer at a time.
        for layer in dict.fromkeys(layers_in_order(model)):  # an ALBERT calls one several times
            fully_shard(layer.to(device))
        fully_shard(self.to(device), reshard_after_forward=True)

    def forward(self, *arguments: Any, **named: Any) -> EncoderOutput:
        """See `encode`, without the model."""
        return encode(self.model, *arguments, **named)
