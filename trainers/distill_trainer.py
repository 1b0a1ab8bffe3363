"""A `transformers.Trainer` whose loss compares a student with its teachers."""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import ProgressCallback

from ..collators import SPAN_COLUMNS, Batch, DistillationCollator, as_batch, collator_for, most_tokens
from ..data import beside, check_folder_name
from ..data.tokenization import same_tokenizer
from ..modeling import DistillationModel, StudentOutput
from ..modeling.encoding import (
    EncoderOutput,
    Normalize,
    OutputRequest,
    SentenceEncoder,
    SentenceModules,
    as_sentence_encoder,
    with_projector,
    write_int8_ranges,
)
from ..modeling.losses import EmbeddingQuantizer
from .arguments import DistillTrainingArguments
from .checks import (
    Setup,
    check_apart,
    check_output_layers,
    check_rows,
    check_run,
    check_their_tokens,
    named_sets,
    take_arguments,
    take_student,
    validate,
)
from .objectives import (
    Dimensions,
    EmbeddingObjective,
    Objective,
    Projector,
    build_objectives,
    projector,
    student_request,
    teacher_request,
    with_short_vectors,
)
from .saving import CardFacts, describe_run, keep_activation, save_sentence_transformer
from .steps import EvaluatingTrainer, FittingTrainer, KeepWithinBounds, RunHeader, TrainingBar
from .student_trainer import StudentTrainer
from .teachers import (
    PREFIX,
    CachedTeacher,
    GivenVectors,
    TeacherSource,
    cache_teacher,
    first_cache,
    load_teacher,
    model_of,
    open_cache,
    outline_teacher,
    place_teacher,
    teacher_dimensions,
    vector_width,
)

logger = logging.getLogger(__name__)


class DistillTrainer(FittingTrainer, EvaluatingTrainer, StudentTrainer):
    """Distils one or several teachers into a student with any kind of head.

    Args:
        model: the student, in float32. The modules of a `SentenceTransformer` or `SentenceEncoder` (pooling, Dense,
            normalisation, `truncate_dim`) make its embeddings, and are trained, in place, and exported with it.
        teacher: a model, a folder or hub id, a PEFT adapter, a `SentenceTransformer` or `SentenceEncoder`, or a list of
            these, whose outputs are averaged with `args.teacher_weights`. The files of a sentence-transformers model
            define its embeddings: prompt, pooling, Dense, normalisation, `truncate_dim`. No teacher is needed if
            `args.teacher_cache` has all outputs that the objectives need; if they only need embeddings, and all
            datasets have them in a column `teacher_embedding` (vectors of any width, float16 to float64); or if only
            labels are used (e.g. to fine-tune a teacher).
        args: arguments with the objectives' weights. Some arguments of `TrainingArguments` are refused (see
            `arguments/conventions.py`). Default: `arguments_class()`, which for `DistillTrainer` sets no objective and
            is refused.
        data_collator: makes the batches. Default: `DistillationCollator`, packed if the architecture allows it.
        train_dataset: tokenised rows (see `retort.data.tokenize`). An `IterableDataset` needs `max_steps`.
        eval_dataset: tokenised rows, or a dict of several datasets. All datasets are checked alike.
        processing_class: the student's tokenizer; it is saved with the student.
        teacher_processing_class: the teacher's tokenizer, if it differs.
        trainer_arguments: any other argument of `transformers.Trainer`.

    Raises:
        TypeError: the arguments are another trainer's; or a teacher, or a dataset, is of another class.
        ValueError: there is no objective; teacher and student do not match in the outputs that an objective compares;
            the student is in half precision; attention is block-sparse; or the rows' tokens fit no teacher's.
    """

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
        args = take_arguments(args, self.arguments_class)
        model, self.student_encoder, args = take_student(as_sentence_encoder(model), args)
        check_run(model, args, trainer_arguments, self.student_encoder, processing_class)
        given = teacher if isinstance(teacher, list | tuple) else [teacher] if teacher is not None else []
        sources = list(map(as_sentence_encoder, given))
        self.teacher_sources = sources
        outlines = [outline_teacher(source, model, args) for source in sources]
        check_apart(model, self.student_encoder, sources)
        sets = named_sets(train_dataset, eval_dataset)
        vectors = None if outlines or args.teacher_cache else vector_width(sets)
        dimensions = teacher_dimensions(outlines, first_cache(args, train_dataset, eval_dataset), vectors, model)
        set_seed(args.seed)  # the objectives' initial weights must not depend on earlier random draws
        made = self.build_objectives(args, model, dimensions or Dimensions.of(model.config))
        self.objectives = with_short_vectors(made, args, self._embedding_width(model))
        teacher_processing_class = None if vectors else teacher_processing_class  # vectors are of no tokens
        same_tokens = teacher_processing_class is None or same_tokenizer(processing_class, teacher_processing_class)
        self._setup = Setup(
            args=args,
            objectives=self.objectives,
            student=model,
            student_encoder=self.student_encoder,
            teachers=outlines,
            has_teacher=dimensions is not None,
            vectors=vectors,
            same_tokens=same_tokens,
            said_so=teacher_processing_class is not None and same_tokens,
            needed=self.needed_columns if data_collator is None else None,
        )
        validate(self._setup, sets, trainer_arguments, self.check_rows)
        encoders = [load_teacher(source, model, args) for source in sources]
        teachers = list(map(model_of, encoders))
        check_output_layers(self.objectives, teachers)
        attention = args.attention.choose(model).name if data_collator is None else None
        if data_collator is None:
            # Even with the same tokenizer, the teacher's tokens may differ, because of a prompt.
            own = any("teacher_input_ids" in (getattr(rows, "column_names", None) or ()) for rows in sets.values())
            theirs = (processing_class if own else None) if same_tokens else teacher_processing_class
            data_collator = self.build_collator(args, model, teachers, processing_class, theirs)
        super().__init__(
            self._distillation_model(model, args, train_dataset),
            args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **trainer_arguments,
        )
        self.add_callback(KeepWithinBounds())
        self.add_callback(RunHeader(attention))
        if self.pop_callback(ProgressCallback):  # a notebook has its own callback, which stays
            self.add_callback(TrainingBar())
        read = teacher_request(self.objectives)
        given = GivenVectors() if vectors and read else None
        self.teacher = place_teacher(encoders, read, args, self.accelerator) if encoders and read else given
        if args.teacher_cache and read and sets:
            self._use_teacher_cache(Path(args.teacher_cache), read)

    def _distillation_model(
        self, student: PreTrainedModel, args: DistillTrainingArguments, rows: datasets.Dataset | None
    ) -> DistillationModel:
        """The student with its objectives, and with its own pooling and modules."""
        encoder, quantizer = self.student_encoder, None
        if args.quantization_aware is not None:
            width, normalize = self._embedding_width(student), self.normalizes_export(args)
            quantizer = EmbeddingQuantizer(args.quantization_aware, width, normalize=normalize)
        shared = not args.shards_weights  # a rank's slices could not be used outside the engine
        return DistillationModel(
            student,
            self.objectives,
            student_request(self.objectives),
            pooling=None if encoder is None else encoder.pooling(),
            head=None if encoder is None else encoder.modules.trainable_head(shared=shared),
            projector=self._embedding_projector if args.keep_projector else None,
            quantizer=quantizer,
            dropout=self.trains_with_dropout(args, rows),
            stop_early=not args.shards_weights,
        )

    def _embedding_width(self, student: PreTrainedModel) -> int:
        """The width of the student's embeddings, before a projector."""
        return student.config.hidden_size if self.student_encoder is None else self.student_encoder.embedding_size

    # --- Methods for subclasses to override ---------------------------------------------------------------------------

    # Columns that the trainer's own collator needs.
    needed_columns: tuple[str, ...] = ("input_ids",)

    def check_rows(self, rows: Any, name: str) -> None:
        """Refuse a dataset that would be trained on, or evaluated, with wrong numbers."""
        check_rows(self._setup, rows, name)
        # `validate` calls this before there is a teacher, when its outputs are not in the rows yet.
        teacher, columns = getattr(self, "teacher", None), getattr(rows, "column_names", None) or ()
        check_their_tokens(columns, self.teacher_sources and getattr(self, "data_collator", None), name)
        if isinstance(teacher, CachedTeacher) and columns:
            joined = any(rows is each for each in named_sets(self.train_dataset, self.eval_dataset).values())
            teacher.check_columns(columns, name, joined=joined)

    def build_objectives(
        self, args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions
    ) -> list[Objective]:
        """The terms of the loss."""
        is_one = len(self.teacher_sources) == 1 and not args.teacher_cache
        made = build_objectives(args, student, teacher, reads_output_layer=is_one)
        if not args.embedding_weight:
            return made
        settings = args.embedding_weight, *args.poolers, args.embedding_loss
        return [EmbeddingObjective(*settings, self.embedding_projector(args, student, teacher)), *made]

    def embedding_projector(
        self, args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions
    ) -> nn.Module:
        """The module that maps the student's embeddings to the teacher's width. All objectives share it."""
        if self._embedding_projector is None:
            encoder, kind = self.student_encoder, args.projector
            if encoder is not None and encoder.modules.has_dense and kind == "linear":
                kind = "auto"  # the student has such a map already, as after a stage that kept its projector
            self._embedding_projector = projector(self._embedding_width(student), teacher.embedding_size, kind)
        return self._embedding_projector

    def trains_with_dropout(self, args: DistillTrainingArguments, rows: datasets.Dataset | None) -> bool:
        """Whether the student is trained with dropout (`disable_dropout`). By default it is if no objective reads a
        teacher, or if activations are checkpointed, which transformers does in train mode only."""
        if args.disable_dropout is not None:
            return not args.disable_dropout
        return args.activation_checkpointing or not any(objective.teacher_request() for objective in self.objectives)

    def build_collator(self, args, student, teachers, tokenizer, teacher_tokenizer) -> DistillationCollator:
        """The collator if `data_collator` is None. It packs batches unless a model's attention can't, as eager."""
        return collator_for(student, teachers, tokenizer, teacher_tokenizer, attention=args.attention)

    def read_batch(self, inputs: dict[str, Any], *, training: bool) -> Batch:
        """Convert the collator's output to the batch that objectives read."""
        return as_batch(inputs)

    # --- The teacher --------------------------------------------------------------------------------------------------

    def run_teacher(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for a batch; empty if no objective reads them."""
        return self.teacher.outputs(batch) if self.teacher else EncoderOutput()

    def _use_teacher_cache(self, folder: Path, request: OutputRequest) -> None:
        """Add the cached outputs to the rows of every dataset; compute missing ones first."""

        def joined(dataset: datasets.Dataset, name: str) -> datasets.Dataset:
            if self.teacher is None:
                return beside(dataset, open_cache(folder / name, request, dataset))
            cached = cache_teacher(
                self.teacher,
                dataset,
                folder / name,
                collator=self.data_collator,
                device=self.args.device,
                dtype=self.args.teacher_cache_dtype,
                batch_size=self.args.per_device_eval_batch_size,
            )
            return beside(dataset, cached)

        named = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        for name in named:
            check_folder_name(name, "An evaluation set")
        if self.train_dataset is not None:
            self.train_dataset = joined(self.train_dataset, "train")
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {key: joined(dataset, f"eval-{key}") for key, dataset in self.eval_dataset.items()}
        elif self.eval_dataset is not None:
            self.eval_dataset = joined(self.eval_dataset, "eval")
        live = None if self.args.shard_teacher else self.teacher
        self.teacher = CachedTeacher(first_cache(self.args, self.train_dataset, self.eval_dataset), live)

    # --- Columns and exports ------------------------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        # The Trainer drops columns that are no arguments of the model's forward, but ours takes whole batches.
        if self._signature_columns is None:
            sets = named_sets(self.train_dataset, self.eval_dataset).values()
            columns = {name for rows in sets for name in getattr(rows, "column_names", None) or ()}
            cached = sorted(name for name in columns if name.startswith(PREFIX))
            forward = inspect.signature(self.student.forward).parameters
            # A teacher may use token types even if its student (DistilBERT) doesn't.
            ours = "attention_mask", "token_type_ids", "length", "student_positions", "labels", "label"
            theirs = "teacher_input_ids", "teacher_attention_mask", "teacher_token_type_ids", "teacher_positions"
            self._signature_columns = [*forward, *ours, *theirs, "members", "scores", *SPAN_COLUMNS, *cached]

    def card_facts(self) -> CardFacts:
        """Facts for the model card: those of this run, and those that were passed to `create_model_card`."""
        return replace(describe_run(self), **self._card_extras)

    def exported_embeddings(self, outputs: StudentOutput) -> Tensor:
        """`[rows, features]`, the embeddings that the exported student computes (see `export_extras`)."""
        return F.normalize(outputs.embedding, dim=-1) if self.normalizes_export(self.args) else outputs.embedding

    @property
    def embedding_size(self) -> int:
        """The width of the exported student's embeddings."""
        kept = self.model.projector
        return kept.out_features if isinstance(kept, Projector) else self._embedding_width(self.student)

    def normalizes_export(self, args: DistillTrainingArguments) -> bool:
        """Whether a Normalize module is added to the exported student. Its own modules decide if it has any."""
        kept = self._embedding_projector if args.keep_projector else None
        as_given = self.student_encoder is not None and not isinstance(kept, Projector)
        return args.embedding_loss == "cosine" and not as_given

    @property
    def is_sentence_transformer(self) -> bool:
        """Whether the student is exported as a SentenceTransformer, too: its embeddings are trained."""
        return self.model.request.pooler is not None and self.processing_class is not None

    def export_extras(self, folder: Path, side_weights: dict[str, Tensor]) -> None:
        """Save a sentence encoder as a SentenceTransformer, too. A cross-encoder keeps its teacher's activation."""
        keep_activation(folder, self.teacher_sources if self.args.logits_weight else ())
        if self.is_sentence_transformer:
            save_sentence_transformer(folder, self.exported_modules(side_weights))
        ranges = side_weights.get("quantizer.ranges")
        if ranges is not None and ranges.isfinite().all():  # measured, from the first step on
            write_int8_ranges(folder, ranges)

    def exported_modules(self, side_weights: dict[str, Tensor]) -> SentenceModules:
        """The exported student's sentence-transformers modules: its own, trained; a kept projector; normalisation."""
        longest = min(self.processing_class.model_max_length, most_tokens(self.student))
        if self.student_encoder is None:
            own = SentenceModules.plain(self.args.pooler, longest, normalize=False)
        else:
            prefix, given = "head.", self.student_encoder.modules
            learnt = {name.removeprefix(prefix): each for name, each in side_weights.items() if name.startswith(prefix)}
            own = replace(given.with_weights(learnt), max_length=min(given.max_length, longest))
        head = own.head
        if isinstance(self.model.projector, Projector):
            head = with_projector(head, side_weights["projector.weight"], side_weights["projector.bias"])
        if self.normalizes_export(self.args):
            head = nn.Sequential(*head, Normalize())
        return replace(own, head=head)
