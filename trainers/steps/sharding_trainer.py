"""A Trainer for models that FSDP2 shards."""

import os
import warnings
from pathlib import Path

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from accelerate.utils.constants import OPTIMIZER_NAME as FSDP_OPTIMIZER_NAME
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_utils import EvalLoopOutput

from ...modeling import replaced, reshard, shard_like


class ShardingTrainer(Trainer):
    """Trains, evaluates and resumes under FSDP2 where transformers and accelerate would fail.

    Their `load_fsdp_model` refuses weights that two modules share, and `load_fsdp_optimizer` an optimizer without a
    state for weights that no objective reads, though accelerate has saved both.
    """

    def create_accelerator_and_postprocess(self) -> None:
        """See `Trainer`."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp:
            # accelerate has set this variable. It would let later trainers of this process shard, too.
            os.environ.pop("ACCELERATE_USE_FSDP", None)
            # torch warns of in-place operations on a student's outputs. There are none.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")

    @property
    def state_files(self) -> list[str]:
        """Files of a checkpoint from which a run is resumed, beside the student's."""
        if self.is_deepspeed_enabled:
            return ["latest"]
        if self.is_fsdp_enabled:
            return [f"{FSDP_MODEL_NAME}.bin", f"{FSDP_OPTIMIZER_NAME}.bin", SCHEDULER_NAME]
        return [OPTIMIZER_NAME, SCHEDULER_NAME]

    def evaluation_loop(self, *arguments, **named) -> EvalLoopOutput:
        """See `Trainer`. Before training, every rank evaluates the whole model, since accelerate shards a model only
        together with its optimizer."""
        if self.is_fsdp_enabled and not isinstance(self.model, FSDPModule):
            with replaced(self, is_fsdp_enabled=False):
                return super().evaluation_loop(*arguments, **named)
        output = super().evaluation_loop(*arguments, **named)
        reshard(self.model)
        return output

    def _prepare_for_training(self, *arguments):
        reshard(self.model)  # the passes that fill a queue may have left it gathered
        return super()._prepare_for_training(*arguments)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        file = Path(resume_from_checkpoint, f"{FSDP_MODEL_NAME}.bin")
        saved = torch.load(file, weights_only=True, mmap=True)
        self.model.load_state_dict(
            {name: shard_like(saved[name], own) for name, own in self.model.state_dict().items()}
        )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint, f"{FSDP_OPTIMIZER_NAME}.bin"), weights_only=True, mmap=True)
        options = StateDictOptions(full_state_dict=True, strict=False)  # not strict: see above
        set_optimizer_state_dict(self.model, self.optimizer, state, options=options)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))
