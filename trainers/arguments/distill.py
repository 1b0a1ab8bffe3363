"""Arguments of a distillation run. Each field is documented in its help."""

import math
import re
from dataclasses import dataclass, fields
from itertools import pairwise
from numbers import Real
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.integrations.deepspeed import is_deepspeed_available, unset_hf_deepspeed_config
from transformers.trainer_utils import HubStrategy

from ...modeling.encoding import POOLERS, AttentionSettings
from .choices import check_choices
from .conventions import refuse_unsupported
from .fsdp import read_fsdp_config, set_up_fsdp
from .numbers import check_are_numbers

_LOWER_IS_BETTER = re.compile(r"(^|_)(loss(_|$)|(bits_per_character|alignment|uniformity)$)")


@dataclass
class DistillTrainingArguments(TrainingArguments):
    """`TrainingArguments` for a distillation: the teacher, the objectives and their weights.

    An objective is used if its weight is above 0. Some defaults of `TrainingArguments` differ: rows are grouped by
    length (an exact, resumable sampler), and a loss that is not finite stops the run.
    """

    # The teacher
    teacher_dtype: Literal["auto", "float32", "bfloat16", "float16"] = HfArg(
        default="auto",
        help="dtype of a teacher given as a folder or hub id. 'auto': bfloat16 with --bf16, float16 with --fp16, "
        "otherwise float32.",
    )
    teacher_prompt_name: str | None = HfArg(
        default=None,
        help="Name of the teacher's prompt that its rows begin with, such as 'query'. Default: the default prompt in "
        "the teacher's files.",
    )
    teacher_cache: str | None = HfArg(
        default=None,
        help="Folder of cached teacher outputs. If it doesn't exist, it is written before training (in parts, so "
        "that an interrupted run can continue). Training then reads it instead of running the teacher. Refused if it "
        "was made with another teacher, tokenizer, pooler or text.",
    )
    teacher_cache_dtype: Literal["float16", "float32"] = HfArg(
        default="float16", help="dtype of the outputs in --teacher_cache."
    )
    teacher_weights: list[float] | None = HfArg(
        default=None, help="Weights of several teachers, in their order. Default: equal weights."
    )
    fsdp: bool = HfArg(
        default=False,
        help="Shard the student over the GPUs with FSDP2, layer by layer. Start one process for each GPU.",
    )
    shard_teacher: bool = HfArg(
        default=False,
        help="Under DeepSpeed ZeRO-3 or FSDP, shard the teacher over the ranks. Default: every rank has a copy.",
    )

    # Objectives
    embedding_weight: float = HfArg(
        default=0.0, help="Weight of the distance between the pooled embeddings of student and teacher."
    )
    embedding_loss: Literal["cosine", "mse"] = HfArg(
        default="cosine",
        help="Distance of embeddings: 'cosine' (half the squared distance of the normalized vectors), or 'mse' "
        "(squared difference of the vectors, averaged over their features).",
    )
    similarity_weight: float = HfArg(
        default=0.0,
        help="Weight of the squared difference between the cosine-similarity matrices of student and teacher.",
    )
    logits_weight: float = HfArg(default=0.0, help="Weight of the distance to the teacher's logits.")
    logits_loss: Literal["kl", "mse", "hard"] = HfArg(
        default="kl",
        help="'kl' (KL divergence times tau squared), 'mse' (squared difference of the logits) or 'hard' "
        "(cross-entropy with the teacher's most likely class).",
    )
    temperature: float = HfArg(default=2.0, help="tau of --logits_loss kl; divides the logits.")
    hidden_weight: float = HfArg(default=0.0, help="Weight of the distance between hidden states.")
    hidden_tokens: Literal["all", "first", "mean"] = HfArg(
        default="all",
        help="Hidden states that are compared: those of 'all' tokens, of the 'first' token of each row ([CLS]), or "
        "the 'mean' of each row.",
    )
    hidden_loss: Literal["mse", "cosine"] = HfArg(
        default="mse", help="Distance of hidden states, and of the features of --features_weight."
    )
    features_weight: float = HfArg(
        default=0.0,
        help="Weight of the distance between the inputs of the two classifiers: a tagger's top hidden states, or a "
        "sequence classifier's pooled vector. If the student has a projector, its output is compared.",
    )
    layer_map: str = HfArg(
        default="top",
        help="Teacher layer for each student layer, for hidden states and attention maps: 'top' (the student's "
        "layers with the teacher's topmost), 'uniform' (evenly spaced), 'last' (the top layers only), 'average' (each "
        "layer with the mean of a group of the teacher's), or pairs such as '1:2,2:4,3:6' (student:teacher, 0 is the "
        "embedding layer). 'mix', for hidden states only: compare one learnt weighted average of all layers of each "
        "model.",
    )
    attention_weight: float = HfArg(
        default=0.0,
        help="Weight of the distance between attention maps. Needs attn_implementation='eager' on both models.",
    )
    attention_loss: Literal["mse", "kl"] = HfArg(default="mse", help="Distance of attention maps.")
    relation_weight: float = HfArg(
        default=0.0,
        help="Weight of MiniLMv2's query-query, key-key and value-value relations. The models may have different "
        "numbers of heads.",
    )
    relation_heads: int = HfArg(
        default=12, help="Number of relation heads; must divide the hidden sizes of both models."
    )
    relation_map: str = HfArg(
        default="last", help="Layers whose relations are compared: 'last', or pairs such as '3:10', counted from 1."
    )
    label_weight: float = HfArg(default=0.0, help="Weight of the task's own loss on the labels.")

    # How vectors are made and compared
    pooler: Literal[POOLERS] = HfArg(
        default="mean",
        help="Pooling of the student's embeddings: 'mean', 'cls' (through the model's pooler), "
        "'cls_before_pooler', 'mean_last_two', 'mean_first_last', 'mean_first' (of the embedding layer). A "
        "student that is a SentenceTransformer keeps its own pooling if this is 'mean'; other values must be its own.",
    )
    teacher_pooler: Literal[POOLERS] | None = HfArg(default=None, help="The teacher's pooler. Default: the student's.")
    projector: Literal["auto", "linear", "none"] = HfArg(
        default="auto",
        help="Linear map from the student's vectors to the teacher's, trained with the student. 'auto': if their "
        "widths differ. 'linear': also if they are equal, unless the student has a Dense module; needed if the student "
        "was not made from the teacher. 'none': no map; different widths are refused.",
    )
    fit_projector: bool = HfArg(
        default=False,
        help="Before the first step, set the projector of the embeddings to the least-squares map from the student's "
        "embeddings to the teacher's, on up to 8,192 training rows. Default: it starts at random, and the first steps "
        "change the encoder more than the projector.",
    )
    keep_projector: bool = HfArg(
        default=False,
        help="Export the projector of the embeddings with the student (as a Dense module of the SentenceTransformer). "
        "Its embeddings then have the teacher's width. Default: the projector is dropped.",
    )
    truncate_dims: list[int] | None = HfArg(
        default=None,
        help="Numbers of leading dimensions, descending, such as 384 256 128 64 (Matryoshka). Train the student's "
        "embeddings so that they can be truncated to each of them. Default: only the whole embeddings are trained.",
    )
    quantization_aware: Literal["int8", "binary"] | None = HfArg(
        default=None,
        help="Also train on the student's quantised embeddings, at each of --truncate_dims, so that they can be "
        "stored in this precision. With 'int8', the ranges of the dimensions in the last steps are saved with the "
        "student (int8_ranges.npy).",
    )
    disable_dropout: bool | None = HfArg(
        default=None,
        help="Train the student without dropout. Default: no dropout if the student is compared with a teacher, "
        "which regularises enough and is faster; dropout otherwise, with --activation_checkpointing, and for single "
        "texts whose positive is the same text under another dropout.",
    )
    attention_backend: Literal["auto", "varlen", "runs", "padded"] = HfArg(
        default="auto",
        help="Implementation of attention. 'varlen' and 'runs' pack each batch into one row without padding, which is "
        "exact and much faster. 'varlen' uses one kernel; it needs an NVIDIA GPU of compute capability 8.0 or higher, "
        "bf16 or fp16, and applies no dropout to attention weights. 'runs' uses a loop and is best on a CPU. 'padded' "
        "is the implementation of transformers. 'auto' chooses by device, dtype and architecture; the choice and its "
        "reason are logged.",
    )

    # Batches
    tokens_per_batch: int | None = HfArg(
        default=None,
        help="Size of a micro-batch in tokens of the student, such as 16384, instead of --per_device_train_batch_size "
        "rows. All steps then have nearly the same number of tokens. A step has at most this number times "
        "--gradient_accumulation_steps times the number of processes. Padding is not counted. No row may be longer "
        "than this number.",
    )

    # Defaults that differ from TrainingArguments
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = HfArg(
        default="group_by_length",
        help="'group_by_length' (rows of similar length in each step; seeded, resumes exactly), 'random' or "
        "'sequential'.",
    )
    logging_nan_inf_filter: bool = HfArg(
        default=False, help="Leave NaN and infinite training losses out of the log. Default: they stop the run."
    )
    restore_callback_states_from_checkpoint: bool = HfArg(
        default=True, help="Restore the states of callbacks when resuming, such as the count of early stopping."
    )
    dataloader_num_workers: int | None = HfArg(
        default=None,
        help="Processes that make batches beside the one that trains; 0 for none. Default: 2 on a GPU for rows of a "
        "datasets.Dataset, else none.",
    )
    logging_steps: float = HfArg(default=50, help="Log every so many steps; below 1, a share of all steps.")

    def __post_init__(self):
        check_choices(self)
        check_are_numbers(self)
        if not torch.accelerator.is_available():
            # Otherwise each rank on a machine without a GPU would train alone without a warning, and bf16 would be
            # refused.
            self.use_cpu = True
        refuse_unsupported(self)
        read_fsdp_config(self)
        if self.deepspeed and not is_deepspeed_available():
            raise ImportError(
                f"deepspeed={self.deepspeed!r} needs DeepSpeed, which isn't installed: pip install 'retort[deepspeed]'."
            )
        if self.greater_is_better is None and _LOWER_IS_BETTER.search(self.metric_for_best_model or ""):
            self.greater_is_better = False  # transformers only does so if the name ends with "loss"
        # TrainingArguments knows numbers of workers alone, and refuses to prefetch without any.
        workers = self.dataloader_num_workers
        self.dataloader_num_workers = (1 if self.dataloader_prefetch_factor else 0) if workers is None else workers
        try:
            super().__post_init__()
        finally:
            if self.deepspeed:
                # Otherwise models loaded after this would have empty shards under ZeRO-3, and no student could be cut
                # from them. Encoders are small enough to be loaded whole; the engine shards them afterwards. After an
                # error in the configuration, no model could be loaded.
                unset_hf_deepspeed_config()
        self.dataloader_num_workers = workers  # None is chosen for each dataset
        if self.dataloader_pin_memory:
            # Otherwise the copy of each tensor would wait for the device.
            self.accelerator_config.non_blocking = True
        if self.accelerator_config.dispatch_batches is None:
            # For streams, accelerate would read on rank 0 for all ranks, and it can only send tensors. With this
            # setting, each rank reads its own share.
            self.accelerator_config.dispatch_batches = False
        set_up_fsdp(self)
        if self.shard_teacher and not self.shards_weights:
            raise ValueError(
                "shard_teacher shards the teacher as the student is sharded. Also set fsdp, or deepspeed with ZeRO-3."
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
        self._check_numbers()
        self._check_short_vectors()
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise ValueError(f"tokens_per_batch={self.tokens_per_batch}: 1 or more, or leave it out.")
        if self.tokens_per_batch and self.train_sampling_strategy != "group_by_length":
            raise ValueError(
                f"tokens_per_batch needs train_sampling_strategy='group_by_length', but got "
                f"{self.train_sampling_strategy!r}, with which epochs would have different numbers of steps. Leave one "
                "of the two out."
            )

    def _check_numbers(self) -> None:
        sizes = "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"
        for name in (*sizes, "relation_heads"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}: it must be 1 or more.")
        for name in ("learning_rate", "weight_decay", "max_grad_norm"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}={value}: it must be 0 or above, and finite.")
        if self.max_steps == 0:
            raise ValueError("max_steps=0 trains nothing. Leave it out, or set a number above 0.")
        if not 0 < self.num_train_epochs < math.inf and self.max_steps <= 0:
            raise ValueError(f"num_train_epochs={self.num_train_epochs} must be above 0, or max_steps must be.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: tau divides the logits and must be above 0.")
        for name in self.weights:
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}={value}: an objective's weight must be 0 (off) or above.")
        if self.teacher_weights is not None and not _are_weights(self.teacher_weights):
            raise ValueError(
                f"teacher_weights={self.teacher_weights}: expected a list of finite numbers from 0, not all 0, one for "
                "each teacher. Leave it out for equal weights."
            )

    def _check_short_vectors(self) -> None:
        dims = self.truncate_dims
        if dims is not None and not _are_descending(dims):
            raise ValueError(
                f"truncate_dims={dims}: expected a list of numbers of dimensions from 1, descending and different, "
                "such as [256, 128, 64]."
            )
        if self.keep_projector and (dims or self.quantization_aware):
            raise ValueError(
                f"keep_projector exports vectors of the teacher's width, but "
                f"{'truncate_dims' if dims else 'quantization_aware'} trains the student's own. Leave one of the two "
                "out."
            )

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype in which models compute."""
        return torch.bfloat16 if self.bf16 else torch.float16 if self.fp16 else torch.float32

    @property
    def attention(self) -> AttentionSettings:
        """The settings that a model's attention depends on."""
        dropout, compiled = not self.disable_dropout, bool(self.torch_compile)
        return AttentionSettings(self.device, self.compute_dtype, self.attention_backend, dropout, compiled)

    @property
    def shards_weights(self) -> bool:
        """Whether each rank holds a slice of the weights (DeepSpeed ZeRO-3, FSDP2)."""
        return bool(self.fsdp) or self.runs_under_zero3

    @property
    def runs_under_zero3(self) -> bool:
        """Whether DeepSpeed ZeRO-3 shards the weights."""
        return bool(self.deepspeed and self.hf_deepspeed_config.is_zero3())

    @property
    def rows_per_step(self) -> int:
        """Number of rows of an optimizer step, over all micro-batches and ranks."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def poolers(self) -> tuple[str, str]:
        """The poolers of student and teacher."""
        return self.pooler, self.teacher_pooler or self.pooler

    @property
    def weights(self) -> list[str]:
        """Names of the objectives' weights."""
        return [each.name for each in fields(self) if each.name.endswith("_weight")]


def _are_weights(weights: object) -> bool:
    """Whether this is a list of finite numbers from 0, not all 0."""
    if not isinstance(weights, list | tuple) or not all(isinstance(each, Real) for each in weights):
        return False
    return all(0 <= each < math.inf for each in weights) and any(weights)


def _are_descending(dims: object) -> bool:
    """Whether this is a list of different whole numbers from 1, the largest first."""
    if not isinstance(dims, list | tuple) or not dims or not all(isinstance(each, int) for each in dims):
        return False
    return dims[-1] >= 1 and all(larger > smaller for larger, smaller in pairwise(dims))
