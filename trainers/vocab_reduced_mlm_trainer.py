"""Distillation of a masked language model into another vocabulary (Kolesnikova et al. 2022, arXiv:2205.02340)."""

from dataclasses import replace

import datasets
import numpy as np
import torch

from ..collators import EVALUATION, Filler, MaskedBatch, Masking, SpanCollator, masking_chances
from ..modeling.losses import IGNORED_LABEL
from ..modeling.vocabularies import VocabularyMap, spell
from .arguments import VocabReducedMLMTrainingArguments
from .checks import take_arguments
from .distill_trainer import DistillTrainer
from .objectives import (
    MaskedLMObjective,
    Objective,
    TokenContrastObjective,
    VocabularyObjective,
    check_pairs,
    layer_pairs,
)

# Rows whose tokens are counted at a time.
_ROWS = 10_000


class VocabReducedMLMTrainer(DistillTrainer):
    """Trains a student by masked language modelling, and by distillation from a teacher with another vocabulary.

    Without a teacher it is masked language modelling only, which can train a teacher, too.

    The log has `bits_per_character`: the cross-entropy of the masked tokens in bits, divided by the number of their
    characters. It makes models of different vocabularies comparable: an evaluation with `whole_words` masks the same
    words for all of them, since masking in evaluation depends only on the seed and the text.

    Args: see `DistillTrainer`; `args` are `VocabReducedMLMTrainingArguments`, models have masked-LM heads, and rows
    come from `retort.data.tokenize_spans`.

    Raises:
        ValueError: see `DistillTrainer`; or the two vocabularies have no tokens to compare, there are several teachers,
            or the rows are of another kind.
    """

    arguments_class = VocabReducedMLMTrainingArguments
    needed_columns = ("input_ids", "spans", "span_words", "span_characters", "text_id")

    def __init__(self, model, teacher=None, args=None, data_collator=None, train_dataset=None, *others, **named):
        args = take_arguments(args, self.arguments_class)
        if isinstance(teacher, list | tuple) and len(teacher) > 1:
            raise ValueError(
                f"{len(teacher)} teachers: distributions over a vocabulary are read from one teacher's output layer. "
                "Pass one, or set vocabulary_weight=0 and use a DistillTrainer."
            )
        self._tokenizers = named.get("processing_class"), named.get("teacher_processing_class")
        self._epoch = 0
        if args.mask_smoothing and train_dataset is not None and not isinstance(train_dataset, datasets.Dataset):
            raise ValueError(
                f"mask_smoothing counts the tokens of all training rows, but train_dataset is a "
                f"{type(train_dataset).__name__}. Set mask_smoothing=0, or load the data without streaming."
            )
        super().__init__(model, teacher, args, data_collator, train_dataset, *others, **named)
        masking = _even_masking(args, model, *self._tokenizers)
        self._masking = {True: masking, False: masking}  # by whether it is for training
        if args.mask_smoothing and self.train_dataset is not None:
            counts = _token_counts(self.train_dataset, model.config.vocab_size)
            counts[self.processing_class.all_special_ids] = 0  # they are never masked
            chances = masking_chances(counts, len(counts), args.mask_share, args.mask_smoothing)
            self._masking[True] = replace(masking, chances=chances)

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """The objectives of `DistillTrainer`, masked LM, distillation across vocabularies, and contrast of tokens."""
        made = super().build_objectives(args, student, teacher)
        if args.mlm_weight:
            made.append(MaskedLMObjective(args.mlm_weight))
        if args.vocabulary_weight:
            made.append(_vocabulary_objective(args, student.config.vocab_size, *self._tokenizers))
        if args.contrast_weight:
            check_pairs(args, "contrast_weight")
            pairs = layer_pairs(args.layer_map, student.config.num_hidden_layers, teacher.depth)
            sizes = student.config.hidden_size, teacher.hidden_size
            made.append(TokenContrastObjective(args.contrast_weight, pairs, *sizes, args.projector, args))
        return made

    def build_collator(self, args, *arguments) -> SpanCollator:
        """The collator of `DistillTrainer`, with spans."""
        return SpanCollator(super().build_collator(args, *arguments), one_to_one=args.vocabulary_loss == "match")

    def read_batch(self, inputs, *, training) -> MaskedBatch:
        """Convert the collator's output to a batch with masked tokens."""
        epoch = self._epoch if training else EVALUATION
        return self._masking[training](super().read_batch(inputs, training=training), epoch)

    def labels_of(self, batch: MaskedBatch) -> torch.Tensor:
        """The masked tokens, `[rows, width]`, and -100 elsewhere."""
        layout = batch.layout
        flat = torch.full((layout.tokens,), IGNORED_LABEL, device=batch.hidden.device)
        return layout.pad(flat.index_copy(0, batch.hidden, batch.hidden_tokens), IGNORED_LABEL)

    def _run_epoch(self, *, epoch: int, **arguments) -> None:
        self._epoch = epoch
        super()._run_epoch(epoch=epoch, **arguments)


def _even_masking(args, student, tokenizer, teacher_tokenizer) -> Masking:
    """`Masking` by which all tokens are equally likely to be masked."""
    if tokenizer is None:
        raise ValueError(
            "Masking needs the tokenizer's mask token. Pass the student's tokenizer as processing_class=..."
        )
    return Masking(
        masking_chances(None, student.config.vocab_size, args.mask_share, smoothing=0),
        Filler.of(tokenizer),
        Filler.of(teacher_tokenizer or tokenizer) if args.teacher_reads == "masked" else None,
        args.whole_words,
        args.seed,
    )


def _token_counts(rows: datasets.Dataset, vocabulary: int) -> torch.Tensor:
    """Count of each token, `[vocabulary]`."""
    counts = torch.zeros(vocabulary, dtype=torch.int64)
    for batch in rows.select_columns("input_ids").with_format("numpy").iter(_ROWS):
        counts += torch.bincount(torch.from_numpy(np.concatenate(batch["input_ids"])), minlength=vocabulary)
    return counts


def _vocabulary_objective(args, size: int, tokenizer, teacher_tokenizer) -> VocabularyObjective:
    """Divergence over the teacher's non-special tokens that can be spelled with some of the student's `size` tokens."""
    if tokenizer is None or teacher_tokenizer is None:
        raise ValueError(
            "Comparing two vocabularies needs both tokenizers. Pass the student's as processing_class=..., the "
            "teacher's as teacher_processing_class=..., and both to tokenize_spans()."
        )
    spelling = spell(teacher_tokenizer, tokenizer).without(teacher_tokenizer.all_special_ids)
    if args.vocabulary_loss == "reduce_map":
        vocabulary = VocabularyMap.of(spelling, size, args.map_logits)
    else:
        vocabulary = VocabularyMap.shared(spelling, size)
    return VocabularyObjective(args.vocabulary_weight, vocabulary.to(args.device), args)
