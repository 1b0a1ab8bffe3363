"""Making a smaller tokenizer for a student, and telling what it costs."""

import argparse

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data.readers import read_texts
from ..data.tokenizers import train_tokenizer, trim_tokenizer
from ..evaluation.report import aligned
from ..modeling.vocabularies import spell

# Texts that tokens are counted in.
SAMPLE = 10_000


def run(options: argparse.Namespace) -> None:
    """Make, save, tell."""
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
    """Both vocabularies on the text, and one by the other."""
    sample = texts.select(np.linspace(0, len(texts) - 1, min(SAMPLE, len(texts))).astype(int))["text"][:]
    words = sum(len(text.split()) for text in sample)
    lines = [["", "tokens", "tokens for a word", "unknown"]]
    for name, tokenizer in (("teacher", teacher), ("student", student)):
        ids = np.concatenate(tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"])
        unknown = float((ids == tokenizer.unk_token_id).mean()) if tokenizer.unk_token_id is not None else 0.0
        lines.append([name, f"{len(tokenizer):,}", f"{len(ids) / words:.2f}", f"{unknown:.2%}"])
    counts = spell(student, teacher).counts
    shared, spelled, none = (int(found.sum()) for found in (counts == 1, counts > 1, counts == 0))
    told = (
        f"Of the student's tokens, the teacher has {shared:,}, spells {spelled:,} by several, and can't spell {none:,}."
    )
    return "\n".join([*aligned(lines, gap=2), "", told])
