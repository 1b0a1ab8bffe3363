"""Writing a teacher's vectors, or other outputs, to disk, once, for later runs."""

import argparse

from accelerate import PartialState
from datasets import Dataset

from ..data import read_texts
from ..modeling.encoding import SentenceEncoder
from ..modeling.shrinking import shrink
from ..recipes import converted_arguments
from ..recipes.sentences import layers_to_keep, load_model, tokenize_for
from ..trainers import DistillTrainer, write_vectors
from ..trainers.arguments import DistillTrainingArguments


def run(options: argparse.Namespace) -> None:
    """Write what the objectives need that are given as key=value, or else vectors."""
    (_write_outputs if options.changes else _write_vectors)(options)


def _write_vectors(options: argparse.Namespace) -> None:
    """Write texts and their vectors.

    Raises:
        ValueError: a teacher whose files don't say how its tokens become an embedding, or no prompt of that name.
    """
    args = DistillTrainingArguments(output_dir=options.output_dir)  # finds the device, and starts the process group
    with args.main_process_first(desc="reading text"):
        texts = _texts(options)
    encoder = SentenceEncoder.from_pretrained(options.teacher).cut_at(options.max_length)
    encoder.model.to(args.device)
    named = {"prompt": options.prompt, "prompt_name": options.prompt_name}
    write_vectors(encoder, texts, options.output_dir, **named)
    if args.process_index == 0:
        print(f"{len(texts):,} texts and their vectors of {encoder.embedding_size} numbers: {options.output_dir}/")
    PartialState().destroy_process_group()


def _write_outputs(options: argparse.Namespace) -> None:
    """Write what the objectives need that are given as key=value: building their trainer does.

    Raises:
        ValueError: an argument that DistillTrainer doesn't have.
    """
    given = converted_arguments(options.changes, DistillTrainingArguments)
    args = DistillTrainingArguments(output_dir=options.output_dir, teacher_cache=options.output_dir, **given)
    with args.main_process_first(desc="reading text"):
        teacher = load_model(options.teacher, options.max_length, args)
        rows = tokenize_for(teacher, _texts(options))
    layers = layers_to_keep(options.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)
    trainer = DistillTrainer(student, options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
    if trainer.is_world_process_zero():
        print(f"{len(rows):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()


def _texts(options: argparse.Namespace) -> Dataset:
    excluded = read_texts(options.exclude_files) if options.exclude_files else ()
    return read_texts(options.train_files, exclude=excluded)
