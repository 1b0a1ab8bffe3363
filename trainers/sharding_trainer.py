"""A Trainer that shards its model with FSDP2, and loads it from checkpoints."""

import os
from pathlib import Path

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from accelerate.utils.constants import OPTIMIZER_NAME as FSDP_OPTIMIZER_NAME
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME


class ShardingTrainer(Trainer):
    """Loads what accelerate saves under FSDP2, but its own functions don't load: weights that two modules share
    (`load_fsdp_model`), and an optimizer without a state for weights that no objective reads (`load_fsdp_optimizer`).
    """

    def create_accelerator_and_postprocess(self) -> None:
        """See `Trainer`. Refuses FSDP where accelerate would leave it out without a word."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp:
            # accelerate has set it. Trainers without FSDP that are made later in this process would shard, too.
            os.environ.pop("ACCELERATE_USE_FSDP", None)
            if not self.is_fsdp_enabled:
                raise ValueError(
                    "fsdp: accelerate shards on several GPUs alone, but this run is "
                    f"{self.accelerator.distributed_type}. Leave fsdp out."
                )

    @property
    def optimizer_files(self) -> list[str]:
        """Files of a checkpoint with the states of optimizer and schedule, and with weights that nothing else has."""
        if self.is_deepspeed_enabled:
            return ["latest"]
        if self.is_fsdp_enabled:
            return [f"{FSDP_MODEL_NAME}.bin", f"{FSDP_OPTIMIZER_NAME}.bin", SCHEDULER_NAME]
        return [OPTIMIZER_NAME, SCHEDULER_NAME]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        file = Path(resume_from_checkpoint, f"{FSDP_MODEL_NAME}.bin")
        saved = torch.load(file, weights_only=True, mmap=True)
        self.model.load_state_dict({name: _share(saved[name], own) for name, own in self.model.state_dict().items()})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint, f"{FSDP_OPTIMIZER_NAME}.bin"), weights_only=True, mmap=True)
        options = StateDictOptions(full_state_dict=True, strict=False)  # every rank has read all of it
        set_optimizer_state_dict(self.model, self.optimizer, state, options=options)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))


def _share(saved: Tensor, own: Tensor) -> Tensor:
    """This rank's share of a saved tensor, which every rank has read; the tensor itself where `own` is not sharded."""
    if not isinstance(own, DTensor):
        return saved
    return distribute_tensor(saved.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
