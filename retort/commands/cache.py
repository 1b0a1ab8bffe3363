"""Writing a teacher's outputs to disk, once, for later runs with --teacher_cache."""

import argparse

from transformers import PreTrainedModel

from ..data import read_texts, tokenize
from ..modeling.encoding import SentenceEncoder
from ..modeling.shrinking import shrink
from ..recipes import converted_arguments
from ..trainers import DistillTrainer
from ..trainers.arguments import DistillTrainingArguments


def run(options: argparse.Namespace) -> None:
    """Write what the objectives need that are given as key=value: building their trainer does.

    Raises:
        ValueError: an argument that DistillTrainer doesn't have.
    """
    given = converted_arguments(options.changes, DistillTrainingArguments)
    args = DistillTrainingArguments(output_dir=options.output_dir, teacher_cache=options.output_dir, **given)
    with args.main_process_first(desc="reading text"):
        pooler = args.teacher_pooler or args.pooler
        teacher = SentenceEncoder.from_pretrained(options.teacher, pooler=pooler, max_length=options.max_length)
        excluded = read_texts(options.exclude_files) if options.exclude_files else ()
        rows = tokenize(
            read_texts(options.train_files, exclude=excluded),
            teacher.tokenizer,
            max_length=teacher.max_length,
            teacher_prompt=teacher.modules.prompt(),
        )
    layers = layers_to_keep(options.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)
    trainer = DistillTrainer(student, options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
    if trainer.is_world_process_zero():
        print(f"{len(rows):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()


def layers_to_keep(given: list[int] | None, teacher: PreTrainedModel) -> int | list[int]:
    """What `--layers` says, as `shrink` takes it: one number is how many, several are which; None keeps half."""
    if given is None:
        return -(-teacher.config.num_hidden_layers // 2)
    return given[0] if len(given) == 1 else given
