"""Models with random weights, and rows of random words. Neither changes the time of a step."""

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

from retort import shrink

CUDA = torch.cuda.is_available()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Shortest row, longest row, and the exponent of a uniform random number. A lower exponent gives more long rows.
LENGTHS = {"short": (6, 40, 1.0), "mixed": (30, 256, 0.71), "long": (256, 512, 1.0)}
HIDDEN = {"base": (768, 12, 3072), "small": (384, 12, 1536)}
QUEUE = 65_536


@dataclass(frozen=True)
class Sizes:
    """Sizes of models and batches, and numbers of steps."""

    rows: int = 128
    layers: int = 12
    vocabulary: int = 30_522
    warm: int = 20
    timed: int = 60
    profiled: int = 5
    watched: int = 5
    queue: int = QUEUE

    @property
    def steps(self) -> int:
        """Number of steps of a run. The last one is not measured, since the end of a run reads the loss."""
        return self.warm + self.timed + self.profiled + self.watched + 1


TINY = Sizes(rows=8, layers=2, vocabulary=300, warm=2, timed=4, profiled=2, watched=2, queue=64)


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word: w0, w1, …"""
    words = {word: index for index, word in enumerate([*SPECIAL, *(f"w{i}" for i in range(vocabulary - 5))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **named)


def rows_of(kind: str, count: int, vocabulary: int) -> Dataset:
    """Tokenized rows of random words."""
    shortest, longest, power = LENGTHS[kind]
    generator = np.random.default_rng(0)
    lengths = (shortest + (longest + 1 - shortest) * generator.random(count) ** power).astype(int)
    words = generator.integers(5, vocabulary, int(lengths.sum()), dtype=np.int64)
    parts = np.split(words, lengths.cumsum()[:-1])
    for part in parts:
        part[0], part[-1] = 2, 3
    return Dataset.from_dict({"input_ids": parts, "length": lengths})


def texts_of(rows: Dataset) -> list[str]:
    """The same rows as strings."""
    return [" ".join(f"w{i - 5}" for i in ids[1:-1]) for ids in rows["input_ids"]]


def models_of(size: str, sizes: Sizes, *, live: bool) -> tuple[BertModel, BertModel]:
    """A teacher, and a student with half of its layers. A cached teacher has one layer, since only its outputs' width
    matters."""
    width, heads, feed_forward = (64, 4, 128) if sizes is TINY else HIDDEN[size]
    set_seed(0)
    shape = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": feed_forward}
    teacher = BertModel(BertConfig(vocab_size=sizes.vocabulary, num_hidden_layers=sizes.layers, **shape)).eval()
    student = shrink(teacher, layers=sizes.layers // 2)
    return (teacher if live else shrink(teacher, layers=1)), student


def flops_of(student: BertModel, tokens: float) -> float:
    """Floating-point operations of a step's matrix products outside attention, forward and backward."""
    config = student.config
    weights = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return 6 * tokens * config.num_hidden_layers * weights
