"""A `transformers.Trainer` whose loss compares a student with its teachers."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..collators import SPAN_COLUMNS, Batch, DistillationCollator, as_batch, collator_for, most_tokens
from ..data.tokenization import same_tokenizer
from ..modeling import DistillationModel, is_row_wise
from ..modeling.encoding import EncoderOutput, OutputRequest, SentenceEncoder, as_sentence_encoder
from .arguments import DistillTrainingArguments
from .checks import check_objectives, check_run, take_student
from .objectives import AttentionObjective, Dimensions, Objective, build_objectives
from .saving import CardFacts, describe_run, save_sentence_transformer
from .steps import RunningMeans
from .student_trainer import StudentTrainer
from .teachers import (
    PREFIX,
    CachedTeacher,
    TeacherSource,
    cache_teacher,
    check_prompts,
    common_dimensions,
    load_teacher,
    model_of,
    open_cache,
    place_teacher,
    with_teacher_outputs,
)


class DistillTrainer(StudentTrainer):
    """Distils one or several teachers into a student with any kind of head.

    Args:
        model: the student, in float32. The pooler of a `SentenceTransformer` or `SentenceEncoder` becomes the run's;
            one with further modules is refused.
        teacher: a model, a folder or hub id, a PEFT adapter, a `SentenceTransformer` or `SentenceEncoder`, or a list of
            these, whose outputs are averaged with `args.teacher_weights`. A sentence-transformers model makes
            embeddings as its files say: prompt, pooling, Dense, normalisation, `truncate_dim`. May be left out where
            `args.teacher_cache` holds all that the objectives need, and where only labels are learnt from (a teacher's
            own fine-tuning, say).
        args: the objectives, and all that `TrainingArguments` knows.
        data_collator: makes the batches. Default: `DistillationCollator`, packed where the architecture allows.
        train_dataset: tokenised rows (see `retort.data.tokenize`).
        eval_dataset: likewise, or a dict of several.
        processing_class: the student's tokenizer; it is saved beside the student.
        teacher_processing_class: the teacher's tokenizer, where it differs.
        trainer_arguments: any further argument of `transformers.Trainer`.

    Raises:
        ValueError: no objective; a teacher that does not fit the student in what an objective compares; a student in
            half precision; rows whose tokens are not the teacher's and not aligned with them.
    """

    # `compute_loss` divides by counts taken over the whole optimizer step, so the Trainer must not divide again
    # (https://github.com/huggingface/transformers/issues/47688).
    loss_is_scaled_for_ga = True

    arguments_class = DistillTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel | SentenceEncoder,
        teacher: TeacherSource | Sequence[TeacherSource] | None = None,
        args: DistillTrainingArguments | None = None,
        data_collator=None,
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | dict[str, datasets.Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        teacher_processing_class: PreTrainedTokenizerBase | None = None,
        **trainer_arguments: Any,
    ):
        model = take_student(as_sentence_encoder(model), args)
        check_run(model, args)
        sources = teacher if isinstance(teacher, list | tuple) else [teacher] if teacher is not None else []
        sources = list(map(as_sentence_encoder, sources))
        encoders = [load_teacher(source, model, args) for source in sources]
        teachers = list(map(model_of, encoders))
        self.teacher_sources = list(map(model_of, sources))
        dimensions = None
        if teachers:
            dimensions = common_dimensions(encoders)
        elif args.teacher_cache:
            dimensions = CachedTeacher(Path(args.teacher_cache) / "train").dimensions
        same_tokens = teacher_processing_class is None or same_tokenizer(processing_class, teacher_processing_class)
        self.objectives = self.build_objectives(args, model, dimensions or Dimensions.of(model.config))
        check_objectives(
            self.objectives,
            args,
            model,
            teachers,
            train_dataset,
            has_teacher=dimensions is not None,
            same_tokens=same_tokens,
        )
        if data_collator is None:
            # With one tokenizer, too, a teacher may have tokens of its own: after a prompt.
            own = "teacher_input_ids" in (getattr(train_dataset, "column_names", None) or ())
            theirs = (processing_class if own else None) if same_tokens else teacher_processing_class
            data_collator = self.build_collator(args, model, teachers, processing_class, theirs)
        set_seed(args.seed)  # the heads' weights must not depend on what drew numbers before
        heads = reduce(or_, (objective.heads() for objective in self.objectives))
        request = reduce(or_, (objective.student_request() for objective in self.objectives))
        super().__init__(
            DistillationModel(
                model,
                heads,
                request,
                dropout=not args.disable_dropout,
                stop_early=not (args.shards_weights or args.activation_checkpointing),
            ),
            args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **trainer_arguments,
        )
        read = reduce(or_, (objective.teacher_request() for objective in self.objectives))
        if read.pooler:
            check_prompts(encoders, train_dataset, eval_dataset)
        self.teacher = place_teacher(encoders, read, args, self.accelerator) if encoders and read else None
        if args.teacher_cache and read:
            self._use_teacher_cache(Path(args.teacher_cache), read)
        # What is logged, by whether the student is in training.
        self._means = {True: RunningMeans(), False: RunningMeans()}

    # --- What a subclass may change -----------------------------------------------------------------------------------

    def build_objectives(
        self, args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions
    ) -> list[Objective]:
        """The terms of the loss."""
        return build_objectives(args, student, teacher)

    def build_collator(self, args, student, teachers, tokenizer, teacher_tokenizer) -> DistillationCollator:
        """The collator of a run that was given none: it packs where an architecture and the objectives allow."""
        allowed = args.packing and not any(isinstance(o, AttentionObjective) for o in self.objectives)
        return collator_for(student, teachers, tokenizer, teacher_tokenizer, packing=allowed)

    def read_batch(self, inputs: dict[str, Any], *, training: bool) -> Batch:
        """What the collator made, in the form that objectives read, for training or for evaluation."""
        return as_batch(inputs)

    # --- The loss -----------------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Fetch the micro-batches of one optimizer step, and count what each objective's mean goes over.

        The counts take the place of `num_items_in_batch`: they are summed over micro-batches and ranks, so that a step
        of 1 x 64 rows, of 4 x 16 and of 2 ranks x 32 has the same gradient.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [self.read_batch(batch, training=True) for batch in batches]
        counts = torch.zeros(len(self.objectives), device=device)
        for batch in batches:
            counts += torch.stack([torch.as_tensor(o.count(batch), device=device) for o in self.objectives])
        if self.args.world_size > 1:
            counts = self.accelerator.reduce(counts, reduction="sum")
        return batches, counts

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, EncoderOutput]:
        """The weighted sum of all objectives.

        `num_items_in_batch`, `[objectives]`, counts over the whole optimizer step and all ranks. It is None in
        evaluation, where each batch is averaged by itself.
        """
        theirs = self.teacher_outputs(inputs)
        ours = model(inputs["student"], inputs["layout"])
        loss = torch.zeros((), device=self.args.device)
        for index, objective in enumerate(self.objectives):
            values = objective(ours, theirs, inputs)
            total = values.sum()
            self.measure(f"loss_{objective.name}", total, len(values))
            for name, summed in objective.measures(total, inputs).items():
                self.measure(name, *summed)
            if num_items_in_batch is None:
                loss = loss + objective.weight * total / max(len(values), 1)
            else:
                # DDP and ZeRO average gradients over the ranks, but this is a rank's share of one sum.
                share = self.args.world_size / num_items_in_batch[index].clamp_min(1)
                loss = loss + objective.weight * total * share
        self.measure_outputs(ours, inputs)
        return (loss, ours) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss, logits and labels of one evaluation batch, in the order of its rows; tokens padded with -100."""
        batch = self._prepare_inputs(self.read_batch(inputs, training=False))
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, batch, return_outputs=True)
        labels = batch.get("labels")
        if prediction_loss_only or outputs.logits is None:
            return loss, None, labels
        logits = outputs.logits.float()
        if len(logits) == batch["layout"].tokens and not is_row_wise(self.student):
            logits = batch["layout"].pad(logits, -100)
        given = batch["order"].argsort() if "order" in batch else slice(None)  # packed batches are sorted
        return loss, logits[given], labels if labels is None else labels[given]

    def teacher_outputs(self, batch: Batch) -> EncoderOutput:
        """What the objectives compare a batch with."""
        return self.teacher.outputs(batch) if self.teacher else EncoderOutput()

    # --- The log ------------------------------------------------------------------------------------------------------

    def measure_outputs(self, outputs: EncoderOutput, batch: Batch) -> None:
        """Put what is worth knowing of the student's outputs for a batch into what is logged."""

    def measure(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Put `count` values, whose sum is `total`, into the mean that is logged under a name."""
        self._means[self.model.training].add(name, total, count)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and beside the loss the means since the last log, of each objective before its weight.

        Raises:
            FloatingPointError: one that is not finite. Nothing good can come of further steps.
        """
        prefix = next((key[: -len("loss")] for key in logs if key == "loss" or key.endswith("_loss")), None)
        if prefix is not None:
            found = self._means[self.model.training].take(self.accelerator)  # every rank logs at the same step
            bad = [name for name, mean in found.items() if not math.isfinite(mean)]
            if bad:
                raise FloatingPointError(
                    f"{bad[0]} is {found[bad[0]]} at step {self.state.global_step}. Lower the learning rate, use "
                    "--bf16 rather than --fp16, or look for rows that make the teacher's outputs infinite."
                )
            logs |= {f"{prefix}{name}": mean for name, mean in found.items()}
        super().log(logs, start_time)

    # --- The teacher --------------------------------------------------------------------------------------------------

    def _use_teacher_cache(self, folder: Path, request: OutputRequest) -> None:
        """Put the cached outputs beside the rows of every dataset, computing first what is not there yet."""

        def joined(dataset: datasets.Dataset, name: str) -> datasets.Dataset:
            if self.teacher is None:
                return with_teacher_outputs(dataset, open_cache(folder / name, request, dataset))
            cached = cache_teacher(
                self.teacher,
                dataset,
                folder / name,
                collator=self.data_collator,
                device=self.args.device,
                dtype=self.args.teacher_cache_dtype,
                batch_size=self.args.per_device_eval_batch_size,
            )
            return with_teacher_outputs(dataset, cached)

        if self.train_dataset is not None:
            self.train_dataset = joined(self.train_dataset, "train")
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {key: joined(dataset, f"eval-{key}") for key, dataset in self.eval_dataset.items()}
        elif self.eval_dataset is not None:
            self.eval_dataset = joined(self.eval_dataset, "eval")
        self.teacher = CachedTeacher(next(path.parent for path in sorted(folder.glob("*/cache.json"))))

    # --- Columns and exports ------------------------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        # The Trainer drops the columns that the model's forward does not name; ours takes whole batches.
        if self._signature_columns is None:
            evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
            sets = [self.train_dataset, *evaluated.values()]
            cached = {
                name for rows in sets for name in getattr(rows, "column_names", None) or () if name.startswith(PREFIX)
            }
            forward = inspect.signature(self.student.forward).parameters
            # A teacher may read token types where its student (DistilBERT) doesn't.
            others = ("token_type_ids", "labels", "label", "length", "student_positions", "members")
            self._signature_columns = [*forward, *others, *SPAN_COLUMNS, *sorted(cached)]

    def card_facts(self) -> CardFacts:
        """What the model card says: what this run knows of itself, and what the caller told `create_model_card`."""
        return replace(describe_run(self), **self._card_extras)

    def export_extras(self, folder: Path, heads: dict[str, Tensor]) -> None:
        """Make a sentence encoder a SentenceTransformer, too."""
        if self.model.request.pooler is None or self.processing_class is None:
            return
        projector = None
        if self.args.keep_projector and "embedding" in self.model.heads:
            projector = nn.Linear(*reversed(heads["heads.embedding.weight"].shape))
            projector.load_state_dict({name: heads[f"heads.embedding.{name}"] for name in ("weight", "bias")})
        save_sentence_transformer(
            folder,
            pooler=self.args.pooler,
            max_length=min(self.processing_class.model_max_length, most_tokens(self.student)),
            normalize=self.args.embedding_loss == "cosine",
            projector=projector,
        )
