"""Makes a smaller tokenizer for a student and compares it with the teacher's."""

import argparse

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data.readers import read_texts
from ..data.tokenizers import train_tokenizer, trim_tokenizer
from ..evaluation.report import aligned
from ..modeling import require_model
from ..modeling.vocabularies import spell

# Number of texts in the comparison.
SAMPLE = 10_000


def run(options: argparse.Namespace) -> None:
    """Make and save the tokenizer, and print the comparison."""
    require_model("--teacher", options.teacher)
    teacher = AutoTokenizer.from_pretrained(options.teacher)
    texts = read_texts(options.text)
    made = (
        train_tokenizer(texts, teacher, options.train)
        if options.train
        else trim_tokenizer(teacher, texts, vocab_size=options.trim or None, coverage=options.coverage)
    )
    made.save_pretrained(options.output_dir)
    print(f"\n{summary(teacher, made, texts)}\n\n{options.output_dir}/")


def summary(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: Dataset) -> str:
    """Compare both vocabularies on the text and with each other."""
    sample = texts.select(np.linspace(0, len(texts) - 1, min(SAMPLE, len(texts))).astype(int))["text"][:]
    words = sum(len(text.split()) for text in sample)
    lines = [["", "tokens", "tokens per word", "unknown"]]
    for name, tokenizer in (("teacher", teacher), ("student", student)):
        ids = np.concatenate(tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"])
        unknown = float((ids == tokenizer.unk_token_id).mean()) if tokenizer.unk_token_id is not None else 0.0
        lines.append([name, f"{len(tokenizer):,}", f"{len(ids) / words:.2f}", f"{unknown:.2%}"])
    counts = spell(student, teacher).counts
    shared, spelled, none = (int(found.sum()) for found in (counts == 1, counts > 1, counts == 0))
    overlap = (
        f"Of the student's tokens, the teacher has {shared:,}, spells {spelled:,} by several tokens, and can't spell "
        f"{none:,}."
    )
    return "\n".join([*aligned(lines, gap=2), "", overlap])
