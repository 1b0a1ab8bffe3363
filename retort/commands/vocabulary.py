"""Make a smaller tokenizer for a student, and see what it costs: trained on text, or the teacher's own, trimmed.

python examples/prepare_vocabulary.py --teacher bert-base-multilingual-cased --train 16000 \
    --text ru.txt en.txt --output_dir runs/vocabulary
python examples/prepare_vocabulary.py --teacher bert-base-multilingual-cased --trim 16000 ...
python examples/prepare_vocabulary.py --teacher bert-base-multilingual-cased --trim --coverage 0.999 ...

Prints, beside the teacher's, how many tokens the vocabulary has, how many a word of the text takes, and how many of the
text's tokens are unknown; and of the student's tokens, how many the teacher has, and how many it can spell by others.
The folder is what --tokenizer of run_vocab_reduced_mlm.py takes, and student.tokenizer of a recipe.
"""

import argparse

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data.readers import read_texts
from ..data.tokenizers import train_tokenizer, trim_tokenizer
from ..evaluation.report import aligned
from ..modeling.vocabularies import spell
from .command_line import plain_parser

# Texts that tokens are counted in.
SAMPLE = 10_000


def main() -> None:
    """Parse, make, save, tell."""
    options = parse_options()
    teacher = AutoTokenizer.from_pretrained(options.teacher)
    texts = read_texts(options.text)
    made = (
        train_tokenizer(texts, teacher, options.train)
        if options.train
        else trim_tokenizer(teacher, texts, vocab_size=options.trim or None, coverage=options.coverage)
    )
    made.save_pretrained(options.output_dir)
    print(f"\n{summary(teacher, made, texts)}\n\n{options.output_dir}/")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("--teacher", required=True, help="folder or hub id of a teacher, or of a tokenizer")
    parser.add_argument("--text", required=True, nargs="+", metavar="FILE", help="in all of the student's languages")
    parser.add_argument("--output_dir", required=True, help="where to write the tokenizer")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--train", type=int, metavar="N", help="train one of the teacher's kind, with so many tokens")
    how.add_argument(
        "--trim", type=int, nargs="?", const=0, metavar="N", help="keep so many of the teacher's; all that are used"
    )
    parser.add_argument(
        "--coverage", type=float, default=1.0, help="with --trim: the share of the text that tokens kept make up"
    )
    options = parser.parse_args()
    if options.train and options.coverage != 1:
        parser.error("--coverage goes with --trim")
    return options


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
