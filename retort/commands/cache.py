"""Writes a teacher's outputs to disk for later runs with --teacher_cache."""

import argparse

from ..data import read_texts
from ..modeling.shrinking import shrink
from ..recipes import converted_arguments
from ..recipes.sentences import layers_to_keep, load_model, tokenize_for
from ..trainers import DistillTrainer
from ..trainers.arguments import DistillTrainingArguments


def run(options: argparse.Namespace) -> None:
    """Write the outputs for the objectives that are set as key=value. Building the trainer writes them.

    Raises:
        ValueError: DistillTrainer has no such argument.
    """
    given = converted_arguments(options.changes, DistillTrainingArguments)
    args = DistillTrainingArguments(output_dir=options.output_dir, teacher_cache=options.output_dir, **given)
    with args.main_process_first(desc="reading text"):
        teacher = load_model(options.teacher, options.max_length, args)
        excluded = read_texts(options.exclude_files) if options.exclude_files else ()
        rows = tokenize_for(teacher, read_texts(options.train_files, exclude=excluded))
    layers = layers_to_keep(options.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)
    trainer = DistillTrainer(student, options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
    if trainer.is_world_process_zero():
        print(f"{len(rows):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()
