"""Writes a teacher's vectors, its other outputs, or a reranker's scores to disk, for later runs."""

import argparse
import hashlib
import os
from glob import glob
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, PreTrainedModel

from ..data import (
    fingerprint_source,
    mine_negatives,
    read_groups,
    read_texts,
    replace_files,
    tokenize,
)
from ..evaluation.sentences import load_sentence_teacher
from ..modeling import head_of, require_model
from ..modeling.encoding import SentenceEncoder, read_sentence_modules
from ..modeling.shrinking import shrink
from ..recipes import converted_arguments
from ..trainers import DistillTrainer, leave_process_group, load_reranker, score_groups, write_vectors
from ..trainers.arguments import DistillTrainingArguments
from ..trainers.saving import DamagedFilesError, check_files, describe_files, read_sealed, write_sealed

MINED_FILE, MINED_FROM_FILE, GROUPS_FILE = "mined.parquet", "mined.parquet.json", "groups.parquet"
SCORES_FOLDER = "scores"
# The arguments that a reranker's scores or their cost depend on.
OF_SCORES = {"per_device_eval_batch_size", "bf16", "fp16", "tf32", "use_cpu", "ddp_backend"}


def run(options: argparse.Namespace) -> None:
    """Write a reranker's scores. For other teachers, write the outputs for the given objectives, or else vectors."""
    given = converted_arguments(options.changes, DistillTrainingArguments)
    require_model("--teacher", options.teacher)
    if _is_reranker(options.teacher):
        _write_scores(options, given)
        return
    if options.negatives or options.miner:
        raise ValueError(
            f"--negatives and --miner are for rerankers, but {options.teacher} is not a sequence classifier with one "
            "label."
        )
    if given:
        _write_outputs(options, given)
    else:
        _write_vectors(options)


def _is_reranker(source: str) -> bool:
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError):  # the encoder of a SentenceTransformer may be in a sub-folder
        return False
    return config.num_labels == 1 and head_of((config.architectures or ["none"])[0]) == "ForSequenceClassification"


def _require_pooling(flag: str, source: str, way_out: str) -> None:
    """Refuse an encoder whose files don't define its pooling."""
    if read_sentence_modules(source) is None:
        raise ValueError(f"{flag} {source}: has no modules.json, which would define its pooling. {way_out}")


def _write_vectors(options: argparse.Namespace) -> None:
    if options.pooler is None:
        _require_pooling("--teacher", options.teacher, "Name one, such as --pooler mean.")
    args = DistillTrainingArguments(output_dir=options.output_dir)  # finds the device, and starts the process group
    with args.main_process_first(desc="reading text"):
        texts = _texts(options)
    length = options.max_length or 128
    encoder = load_sentence_teacher(options.teacher, length, options.pooler, otherwise=None)
    encoder.model.to(args.device)
    write_vectors(encoder, texts, options.output_dir, prompt=options.prompt, prompt_name=options.prompt_name)
    if args.process_index == 0:
        print(f"{len(texts):,} texts and their vectors of {encoder.embedding_size} numbers: {options.output_dir}/")
    leave_process_group()


def _write_outputs(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """Write the teacher's outputs for the given objectives. Building their trainer writes them."""
    args = DistillTrainingArguments(output_dir=options.output_dir, teacher_cache=options.output_dir, **given)
    with args.main_process_first(desc="reading text"):
        pooler = args.teacher_pooler or args.pooler
        length = options.max_length or 128
        teacher = SentenceEncoder.from_pretrained(options.teacher, pooler=pooler, max_length=length)
        settings = {"max_length": teacher.max_length, "teacher_prompt": teacher.modules.prompt()}
        rows = tokenize(_texts(options), teacher.tokenizer, **settings)
    layers = layers_to_keep(options.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)
    trainer = DistillTrainer(student, options.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
    if trainer.is_world_process_zero():
        print(f"{len(rows):,} rows of teacher outputs: {args.teacher_cache}/")
    trainer.end()


def _write_scores(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """Write a reranker's scores of queries' documents, with mined hard negatives if requested."""
    if bool(options.negatives) != bool(options.miner):
        raise ValueError("--negatives N needs --miner, the sentence encoder that finds them, and the other way round.")
    if options.exclude_files or options.layers or options.hidden_size:
        raise ValueError("A reranker takes no --exclude_files, --layers and --hidden_size. Leave them out.")
    if options.pooler or options.prompt or options.prompt_name:
        raise ValueError("A reranker takes no --pooler, --prompt and --prompt_name. Leave them out.")
    if others := given.keys() - OF_SCORES:
        raise ValueError(f"{min(others)}: this argument doesn't change a reranker's scores. Leave it out.")
    _keep_sources(options.train_files, Path(options.output_dir))
    args = DistillTrainingArguments(output_dir=options.output_dir, **given)
    if options.miner is not None:
        require_model("--miner", options.miner)
        _require_pooling("--miner", options.miner, "Choose a model that was saved by sentence-transformers.")
    teacher, tokenizer = load_reranker(options.teacher)
    folder = Path(options.output_dir)
    with args.main_process_first(local=False, desc="reading groups"):
        groups = _mined_groups(options, args, folder) if options.miner else read_groups(options.train_files)
    scored = score_groups(
        groups,
        teacher,
        folder / SCORES_FOLDER,
        tokenizer=tokenizer,
        max_length=options.max_length or 512,
        batch_size=args.per_device_eval_batch_size,
        dtype=args.compute_dtype,
    )
    if args.should_save:
        with replace_files(folder) as staging:
            scored.to_parquet(staging / GROUPS_FILE)
        print(f"{len(scored):,} queries with scored documents: {folder / GROUPS_FILE}")
    leave_process_group()


def _keep_sources(sources: list[str], folder: Path) -> None:
    """Refuse sources that would be replaced. Columns after a colon or a split in brackets may follow their names, which
    may be patterns."""
    written = [folder.resolve(), *((folder / name).resolve() for name in (GROUPS_FILE, MINED_FILE))]
    for source in sources:
        names = filter(None, (source, source.rpartition(":")[0], source.partition("[")[0]))
        paths = (path for name in map(os.path.expanduser, names) for path in (name, *glob(name, recursive=True)))
        if any(Path(path).resolve() in written for path in paths):
            raise ValueError(
                f"--train_files {source} would be replaced by the groups in --output_dir {folder}. Name another folder."
            )


def _mined_groups(options: argparse.Namespace, args: DistillTrainingArguments, folder: Path) -> Dataset:
    """Groups with mined negatives. The main process mines, and all ranks read its file: two GPUs may order documents of
    nearly equal similarity differently."""
    if args.process_index == 0:
        groups = read_groups(options.train_files)
        wanted = {
            "--negatives": options.negatives,
            "--miner": fingerprint_source(options.miner),
            "--train_files": hashlib.sha256("\n".join(map(repr, groups)).encode()).hexdigest(),
        }
        if not _are_mined(folder, wanted):
            miner = SentenceEncoder.from_pretrained(options.miner)
            miner.model.to(args.device)
            mined = mine_negatives(groups, miner, options.negatives, batch_size=args.per_device_eval_batch_size)
            with replace_files(folder) as staging:
                mined.to_parquet(staging / MINED_FILE)
                files = describe_files([staging / MINED_FILE], staging)
                write_sealed(staging / MINED_FROM_FILE, {"from": wanted, "files": files})
    return Dataset.from_parquet(str(folder / MINED_FILE))


def _are_mined(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether an earlier command mined the documents. Those of other flags are refused, since scores depend on them."""
    way_out = f"Name another --output_dir, or delete {MINED_FILE}, {MINED_FROM_FILE} and {SCORES_FOLDER} in {folder}."
    if not (folder / MINED_FROM_FILE).exists():
        if (folder / SCORES_FOLDER).exists():
            raise ValueError(f"{folder} has scores of other documents (there is no {MINED_FROM_FILE}). {way_out}")
        return False
    try:
        found = read_sealed(folder / MINED_FROM_FILE)
        check_files(folder, found["files"])
    except DamagedFilesError as error:
        raise DamagedFilesError(f"{folder}: {error}, or is of an earlier version. {way_out}") from None
    if differing := [flag for flag, value in wanted.items() if found["from"][flag] != value]:
        raise ValueError(f"{folder} has documents of other {', '.join(differing)}. {way_out}")
    return True


def _texts(options: argparse.Namespace) -> Dataset:
    excluded = read_texts(options.exclude_files) if options.exclude_files else ()
    return read_texts(options.train_files, exclude=excluded)


def layers_to_keep(given: list[int] | None, teacher: PreTrainedModel) -> int | list[int]:
    """Convert `--layers` for `shrink`: one number is a number of layers, several are indices; None keeps half."""
    if given is None:
        return -(-teacher.config.num_hidden_layers // 2)
    return given[0] if len(given) == 1 else given
