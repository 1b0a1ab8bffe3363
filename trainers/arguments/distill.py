"""Arguments of a distillation run. Each field is documented once, in its help."""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.integrations.deepspeed import is_deepspeed_available, unset_hf_deepspeed_config
from transformers.trainer_utils import HubStrategy

from ...modeling.encoding import POOLERS, AttentionSettings
from .choices import check_choices
from .conventions import refuse_unsupported


@dataclass
class DistillTrainingArguments(TrainingArguments):
    """`TrainingArguments` with what a distillation needs: the teacher, the objectives and their weights.

    An objective takes part if its weight is above 0. Some defaults of `TrainingArguments` differ: rows are grouped by
    length (an exact, resumable sampler), and a loss that is not finite stops the run instead of being hidden in the
    log.
    """

    # The teacher
    teacher_dtype: Literal["auto", "float32", "bfloat16", "float16"] = HfArg(
        default="auto",
        help="Number format of a teacher given as a folder or hub id. 'auto': bfloat16 under --bf16, float16 "
        "under --fp16, else float32.",
    )
    teacher_cache: str | None = HfArg(
        default=None,
        help="Folder of teacher outputs. Written before training if it is not there yet (in parts, so that an "
        "interrupted run goes on), then read instead of running the teacher at every step. Refused if it was made "
        "by another teacher, tokenizer, pooler or text.",
    )
    teacher_cache_dtype: Literal["float16", "float32"] = HfArg(
        default="float16", help="Number format of the outputs in --teacher_cache."
    )
    teacher_weights: list[float] | None = HfArg(
        default=None, help="Weights of several teachers, in their order. Default: all equal."
    )
    shard_teacher: bool = HfArg(
        default=False, help="Under DeepSpeed ZeRO-3, shard the teacher over the ranks instead of one copy on each."
    )

    # Objectives
    embedding_weight: float = HfArg(default=0.0, help="Weight of the pooled embeddings' distance to the teacher's.")
    embedding_loss: Literal["cosine", "mse"] = HfArg(
        default="cosine",
        help="Distance of embeddings: 'cosine' (half the squared distance of unit vectors), or 'mse' (squared "
        "difference of the bare vectors, averaged over their features).",
    )
    similarity_weight: float = HfArg(
        default=0.0, help="Weight of the squared difference of the batch's cosine-similarity matrices."
    )
    logits_weight: float = HfArg(default=0.0, help="Weight of the distance to the teacher's logits.")
    logits_loss: Literal["kl", "mse", "hard"] = HfArg(
        default="kl",
        help="'kl' (tau squared times the KL divergence), 'mse' (on the bare logits) or 'hard' (cross-entropy "
        "against the teacher's most likely class).",
    )
    temperature: float = HfArg(default=2.0, help="tau of --logits_loss kl; divides the logits.")
    hidden_weight: float = HfArg(default=0.0, help="Weight of the distance of hidden states.")
    hidden_tokens: Literal["all", "first", "mean"] = HfArg(
        default="all", help="Compare hidden states at all tokens, or of each row the first's ([CLS]) or the mean."
    )
    hidden_loss: Literal["mse", "cosine"] = HfArg(
        default="mse", help="Distance of hidden states, and of the features of --features_weight."
    )
    features_weight: float = HfArg(
        default=0.0,
        help="Weight of the distance of what the two classifiers read: a tagger's top hidden states, a sequence "
        "classifier's pooled vector; behind the student's projector, where it has one.",
    )
    layer_map: str = HfArg(
        default="top",
        help="Which of the teacher's layers each of the student's learns from, for hidden states and attention "
        "maps: 'top' (aligned at the top), 'uniform', 'last', 'average' (over groups), or pairs such as "
        "'1:2,2:4,3:6' (student:teacher, 0 is the embedding layer). 'mix', for hidden states: one average of all "
        "layers on either side, with weights that are learnt.",
    )
    attention_weight: float = HfArg(
        default=0.0, help="Weight of the distance of attention maps. Needs attn_implementation='eager' on both sides."
    )
    attention_loss: Literal["mse", "kl"] = HfArg(default="mse", help="Distance of attention maps.")
    relation_weight: float = HfArg(
        default=0.0, help="Weight of MiniLMv2's query-query, key-key and value-value relations; heads may differ."
    )
    relation_heads: int = HfArg(default=12, help="Heads into which relations are cut; must divide both models' widths.")
    relation_map: str = HfArg(
        default="last", help="Layers whose relations are compared: 'last', or pairs such as '3:10', counted from 1."
    )
    label_weight: float = HfArg(default=0.0, help="Weight of the task's own loss on the labels.")

    # How vectors are made and compared
    pooler: Literal[POOLERS] = HfArg(
        default="mean",
        help="How token vectors become an embedding: 'mean', 'cls' (through the model's pooler), "
        "'cls_before_pooler', 'mean_last_two', 'mean_first_last', 'mean_first' (of the embedding layer).",
    )
    teacher_pooler: Literal[POOLERS] | None = HfArg(default=None, help="The teacher's pooler. Default: the student's.")
    projector: Literal["linear", "none"] = HfArg(
        default="linear",
        help="Where student and teacher differ in width: a trained linear map into the teacher's ('linear'), or "
        "an error ('none').",
    )
    keep_projector: bool = HfArg(
        default=False,
        help="Keep the embeddings' projector in the exported student (a Dense module of a SentenceTransformer), "
        "whose embeddings then have the teacher's width. Default: it is dropped.",
    )
    disable_dropout: bool | None = HfArg(
        default=None,
        help="Train the student without dropout. Default: where it is compared with a teacher, whose outputs "
        "regularise enough, and attention without dropout is faster; but not with --activation_checkpointing, nor "
        "where single texts meet themselves under another dropout.",
    )
    attention_backend: Literal["auto", "varlen", "runs", "padded"] = HfArg(
        default="auto",
        help="How models attend. 'varlen' and 'runs' join each batch into one row without padding, which is exact and "
        "much faster: 'varlen' by one kernel, on NVIDIA GPUs from compute capability 8.0 in bf16 or fp16, without "
        "dropout on attention weights; 'runs' by a loop, best on a CPU. 'padded' is what transformers does. 'auto' "
        "takes what suits the device, the number format and the architecture, and the log says which and why.",
    )

    # Batches
    tokens_per_batch: int | None = HfArg(
        default=None,
        help="Train in micro-batches of as many tokens of the student's, such as 16384, in the place of "
        "--per_device_train_batch_size rows: steps are of nearly the same size, of however many rows. A step holds at "
        "most this times --gradient_accumulation_steps times the number of processes, and its micro-batches are as "
        "equal as whole rows allow. Rows are counted without padding and must not be longer.",
    )

    # Defaults that differ from TrainingArguments
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = HfArg(
        default="group_by_length",
        help="'group_by_length' (rows of similar length meet in a step; seeded, resumes exactly), 'random' or "
        "'sequential'.",
    )
    logging_nan_inf_filter: bool = HfArg(
        default=False, help="Hide losses that are not finite from the log. retort stops on them instead."
    )
    restore_callback_states_from_checkpoint: bool = HfArg(
        default=True, help="Resume callbacks, too: early stopping goes on counting where it was."
    )
    dataloader_num_workers: int | None = HfArg(
        default=None,
        help="Processes that make batches beside the one that trains; 0 for none. Default: 2 on a GPU for rows of a "
        "datasets.Dataset, else none.",
    )
    logging_steps: float = HfArg(default=50, help="Log every so many steps; below 1, a share of all steps.")

    def __post_init__(self):
        check_choices(self)
        if not torch.accelerator.is_available():
            # Without it, ranks of a machine that has no GPU would each train alone and never say so, and bf16 would be
            # refused.
            self.use_cpu = True
        refuse_unsupported(self)
        if self.deepspeed and not is_deepspeed_available():
            raise ImportError(
                f"deepspeed={self.deepspeed!r} needs DeepSpeed, which isn't there: pip install 'retort[deepspeed]'."
            )
        workers, self.dataloader_num_workers = self.dataloader_num_workers, self.dataloader_num_workers or 0
        super().__post_init__()
        self.dataloader_num_workers = workers  # None is chosen for each dataset; TrainingArguments knows numbers alone
        if self.dataloader_pin_memory:
            # Else each tensor of a batch would wait for the device to have taken it.
            self.accelerator_config.non_blocking = True
        if self.deepspeed:
            # Otherwise every model that is loaded from here on would come as empty shards under ZeRO-3, and no student
            # can be cut from those. Encoders are small enough to be loaded whole; the engine shards them afterwards.
            unset_hf_deepspeed_config()
        if self.fsdp:
            raise ValueError(
                "retort does not run under FSDP. For models that one GPU can't hold, use --deepspeed (ZeRO-3)."
            )
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self.hub_strategy.value!r} would publish optimizer states, which are pickles. Use "
                "'end' or 'every_save'."
            )
        if self.disable_dropout and self.activation_checkpointing:
            raise ValueError(
                "disable_dropout keeps the student in eval mode, in which transformers checkpoints no activations. "
                "Choose one, or set the dropout probabilities of the student's configuration to 0."
            )
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise ValueError(f"tokens_per_batch={self.tokens_per_batch}: 1 or more, or leave it out.")
        if self.tokens_per_batch and self.train_sampling_strategy != "group_by_length":
            raise ValueError(
                f"tokens_per_batch needs train_sampling_strategy='group_by_length', but got "
                f"{self.train_sampling_strategy!r}, by which epochs would have different numbers of steps. Leave one "
                "of the two out."
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}: tau divides the logits and must be above 0.")
        for name in self.weights:
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name}={value}: an objective's weight must be 0 (off) or above.")

    @property
    def compute_dtype(self) -> torch.dtype:
        """The number format in which models compute."""
        return torch.bfloat16 if self.bf16 else torch.float16 if self.fp16 else torch.float32

    @property
    def attention(self) -> AttentionSettings:
        """What a model's attention depends on."""
        dropout = not self.disable_dropout
        return AttentionSettings(
            self.device, self.compute_dtype, self.attention_backend, dropout, compiled=bool(self.torch_compile)
        )

    @property
    def shards_weights(self) -> bool:
        """Whether each rank holds a slice of the weights (DeepSpeed ZeRO-3)."""
        return bool(self.deepspeed and self.hf_deepspeed_config.is_zero3())

    @property
    def rows_per_step(self) -> int:
        """Rows of an optimizer step, over all micro-batches and ranks."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def poolers(self) -> tuple[str, str]:
        """The student's pooler, and the teacher's."""
        return self.pooler, self.teacher_pooler or self.pooler

    @property
    def weights(self) -> list[str]:
        """Names of the objectives' weights."""
        return [each.name for each in fields(self) if each.name.endswith("_weight")]
