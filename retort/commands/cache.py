"""Writing a teacher's outputs to disk, once, for later runs with --teacher_cache."""

import argparse

from ..recipes import converted_arguments
from ..recipes.sentences import SentenceArguments, STSArguments, new_student, prepare
from ..trainers import DistillTrainer
from ..trainers.arguments import DistillTrainingArguments
from .command_line import parse

FLAGS = """Write a teacher's outputs to disk, once, for later runs with --teacher_cache.

python examples/cache_teacher.py --teacher sentence-transformers/all-MiniLM-L6-v2 --train_files corpus.txt \
    --embedding_weight 1 --teacher_cache caches/minilm --output_dir runs/mine

Takes the flags of the run that will read the cache, and writes what its objectives need. Interrupted and started again,
it goes on at the next part; under torchrun the ranks share the parts.
"""


def main() -> None:
    """Parse the flags of the run that will read the cache, and write it."""
    options, _, args = parse(SentenceArguments, STSArguments, DistillTrainingArguments, description=FLAGS)
    if not args.teacher_cache:
        raise SystemExit("Name the folder to write with --teacher_cache.")
    write(options, args)


def run(options: argparse.Namespace) -> None:
    """Write what the objectives need that are given as key=value.

    Raises:
        ValueError: an argument that DistillTrainer doesn't have.
    """
    given = converted_arguments(options.changes, DistillTrainingArguments)
    args = DistillTrainingArguments(output_dir=options.output_dir, teacher_cache=options.output_dir, **given)
    names = ("teacher", "train_files", "exclude_files", "layers", "hidden_size", "max_length")
    write(SentenceArguments(**{name: getattr(options, name) for name in names}), args)


def write(options: SentenceArguments, args: DistillTrainingArguments) -> None:
    """Build the trainer: that writes the cache."""
    teacher, texts, rows = prepare(options, args)
    trainer = DistillTrainer(
        new_student(options, teacher), options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer
    )
    if trainer.is_world_process_zero():
        print(f"{len(texts):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()
