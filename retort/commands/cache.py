"""Writing a teacher's outputs to disk, once, for later runs: those of an encoder, or a reranker's scores."""

import argparse
from pathlib import Path

from transformers import AutoConfig

from ..data import mine_negatives, read_groups, read_texts, replace_files
from ..modeling import head_of
from ..modeling.encoding import SentenceEncoder
from ..modeling.shrinking import shrink
from ..recipes import converted_arguments
from ..recipes.sentences import layers_to_keep, load_model, tokenize_for
from ..trainers import DistillTrainer, load_reranker, score_groups
from ..trainers.arguments import DistillTrainingArguments

GROUPS_FILE = "groups.parquet"


def run(options: argparse.Namespace) -> None:
    """Write what the objectives need that are given as key=value: building their trainer does. Or a reranker's scores.

    Raises:
        ValueError: an argument that DistillTrainer doesn't have; objectives for a reranker, or negatives for another
            teacher.
    """
    given = converted_arguments(options.changes, DistillTrainingArguments)
    if not _is_reranker(options.teacher):
        if options.negatives or options.miner:
            raise ValueError(
                f"--negatives and --miner are for rerankers, but {options.teacher} is no sequence classifier with one "
                "label."
            )
        _cache_outputs(options, DistillTrainingArguments(options.output_dir, teacher_cache=options.output_dir, **given))
        return
    args = DistillTrainingArguments(options.output_dir, **given)
    if objectives := [name for name in args.weights if getattr(args, name)]:
        raise ValueError(f"{objectives[0]}: of a reranker, its scores are written, which no objective chooses.")
    _cache_scores(options, args)


def _is_reranker(source: str) -> bool:
    config = AutoConfig.from_pretrained(source)
    return config.num_labels == 1 and head_of((config.architectures or ["none"])[0]) == "ForSequenceClassification"


def _cache_outputs(options: argparse.Namespace, args: DistillTrainingArguments) -> None:
    max_length = options.max_length or 128
    with args.main_process_first(desc="reading text"):
        teacher = load_model(options.teacher, max_length, args)
        excluded = read_texts(options.exclude_files) if options.exclude_files else ()
        rows = tokenize_for(teacher, read_texts(options.train_files, exclude=excluded))
    layers = layers_to_keep(options.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)
    trainer = DistillTrainer(student, options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
    if trainer.is_world_process_zero():
        print(f"{len(rows):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()


def _cache_scores(options: argparse.Namespace, args: DistillTrainingArguments) -> None:
    if bool(options.negatives) != bool(options.miner):
        raise ValueError("--negatives N needs --miner, the sentence encoder that finds them, and the other way round.")
    if options.exclude_files or options.layers or options.hidden_size:
        raise ValueError("--exclude_files, --layers and --hidden_size are not for rerankers. Leave them out.")
    teacher, tokenizer = load_reranker(options.teacher)
    with args.main_process_first(desc="reading groups"):
        groups = read_groups(options.train_files)
        if options.miner:
            miner = SentenceEncoder.from_pretrained(options.miner)
            miner.model.to(args.device)
            groups = mine_negatives(groups, miner, options.negatives, batch_size=args.per_device_eval_batch_size)
    folder = Path(options.output_dir)
    scored = score_groups(
        groups,
        teacher,
        folder / "scores",
        tokenizer=tokenizer,
        max_length=options.max_length or 512,
        batch_size=args.per_device_eval_batch_size,
        dtype=args.compute_dtype,
    )
    if args.should_save:
        with replace_files(folder) as staging:
            scored.to_parquet(staging / GROUPS_FILE)
        print(f"{len(scored):,} queries with scored documents: {folder / GROUPS_FILE}")
