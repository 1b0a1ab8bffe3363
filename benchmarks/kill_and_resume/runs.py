"""The runs that are killed or damaged: the five trainers, stages and a recipe, as small as can be, on the CPU."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import tokenizers
import torch
import yaml
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification, PreTrainedTokenizerFast, set_seed

from retort import (
    CKDTrainer,
    ContrastiveTrainer,
    DistillTrainer,
    MCLTrainer,
    Stage,
    StagedRun,
    VocabReducedMLMTrainer,
    shrink,
    tokenize,
)
from retort.data import tokenize_groups, tokenize_spans
from retort.recipes import read_recipe, run_recipe
from retort.trainers.saving import last_complete_checkpoint

ZERO = {stage: str(Path(__file__).parents[2] / f"examples/deepspeed/zero{stage}.json") for stage in (2, 3)}
SETUPS = {"one process": (1, 0), "DDP x 2": (2, 0), "ZeRO-2 x 2": (2, 2), "ZeRO-3 x 2": (2, 3)}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrst"


def tokenizer_of(letters: str) -> PreTrainedTokenizerFast:
    """Each letter is a token."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({t: i for i, t in enumerate([*SPECIAL, *letters])}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=32, **named)


OURS, THEIRS = tokenizer_of(LETTERS), tokenizer_of(LETTERS[::-1][:16])


def texts(count: int, seed: int = 0) -> list[str]:
    """Random letters, 2 to 12 in a text."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(LETTERS, k=draw.randint(2, 12))) for _ in range(count)]


def rows_of(trainer: type) -> datasets.Dataset:
    """What a trainer learns from."""
    if trainer is MCLTrainer:
        pairs = datasets.Dataset.from_dict({"source": texts(48, 1), "target": texts(48, 2)})
        return tokenize_groups(pairs, OURS, teacher_tokenizer=OURS)
    if trainer is ContrastiveTrainer:
        roles = {role: texts(48, seed) for seed, role in enumerate(("anchor", "positive", "negative"))}
        return tokenize_groups(datasets.Dataset.from_dict(roles), OURS)
    plain = datasets.Dataset.from_dict({"text": texts(48)})
    if trainer is VocabReducedMLMTrainer:
        return tokenize_spans(plain, OURS, teacher_tokenizer=THEIRS)
    return tokenize(plain, OURS).map(lambda row: {"labels": [id % 3 for id in row["input_ids"]]})


def models_of(kind: type, *, vocabulary: int = len(OURS)) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A teacher, and a student of half its layers and width."""
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(vocab_size=vocabulary, max_position_embeddings=34, num_labels=3, **sizes)
    teacher = kind(config).eval()
    own = {} if vocabulary == len(OURS) else {"tokenizer": OURS, "teacher_tokenizer": THEIRS}
    return teacher, shrink(teacher, layers=2, hidden_size=16, **own)


def arguments_of(zero: int) -> dict:
    """Of every trainer: 8 steps of 8 or 16 of 48 rows, which end inside an epoch."""
    return {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 3,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "disable_dropout": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        "deepspeed": ZERO.get(zero),
    }


def train(folder: Path, zero: int, *, trainer: type, cached: bool = False, **objectives) -> None:
    """One training, from the last complete checkpoint if there is one; then the final save."""
    of_words = trainer is VocabReducedMLMTrainer
    kind = BertForMaskedLM if of_words else BertForTokenClassification
    teacher, student = models_of(kind, vocabulary=len(THEIRS if of_words else OURS))
    cache = {"teacher_cache": str(folder / "cache")} if cached else {}
    settings = {**arguments_of(zero), **cache, **objectives}
    made = trainer(
        student,
        teacher,
        trainer.arguments_class(output_dir=str(folder / "run"), **settings),
        train_dataset=rows_of(trainer),
        processing_class=OURS,
        teacher_processing_class=THEIRS if of_words else None,
    )
    made.train(resume_from_checkpoint=last_complete_checkpoint(folder / "run"))
    made.save_model(str(folder / "student"))
    made.end()


def run_stages(folder: Path, zero: int) -> None:
    """Layers from the top down with a cached teacher, then another trainer."""
    teacher, student = models_of(BertForTokenClassification)
    stages = [
        Stage("logits", {"logits_weight": 1.0}, gradual_unfreezing="encoder", cache_teacher=True, chunk_rows=24),
        Stage("queue", {"queue_size": 32, "save_total_limit": 1}, trainer=CKDTrainer),
    ]
    rows, settings = rows_of(DistillTrainer), arguments_of(zero) | {"max_steps": 4}
    StagedRun(
        stages, student, teacher, folder=folder, data={"train": rows}, processing_class=OURS, arguments=settings
    ).run()
    leave_group()


def run_a_recipe(folder: Path, zero: int) -> None:
    """A teacher that is trained first, a student of its layers in two stages, and the student's folder."""
    inputs = folder.with_name(folder.name + ".inputs")
    inputs.mkdir(exist_ok=True)
    (inputs / "train.txt").write_text("\n".join(texts(48)))
    OURS.save_pretrained(inputs / f"tokenizer-{os.getpid()}")  # each rank, and each start, has files of its own
    stage = {"trainer": "VocabReducedMLMTrainer"}
    sizes = {"layers": 2, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    recipe = {
        "teacher": {
            "name": "new",
            "new": {"tokenizer": str(inputs / f"tokenizer-{os.getpid()}"), **sizes},
            "stages": [{**stage, "name": "words", "arguments": {"mlm_weight": 1.0, "vocabulary_weight": 0}}],
        },
        "student": {"layers": 1},
        "data": {"task": "masked_lm", "train_files": [str(inputs / "train.txt")], "max_length": 16},
        "arguments": arguments_of(zero) | {"max_steps": 4},
        "stages": [{**stage, "name": "hidden", "arguments": {"hidden_weight": 1.0}}, {**stage, "name": "words"}],
        "output_dir": str(folder),
    }
    file = inputs / f"recipe-{os.getpid()}.yaml"
    file.write_text(yaml.safe_dump(recipe))
    run_recipe(read_recipe(str(file)))


def leave_group() -> None:
    """Meet, and let gloo go, as `StudentTrainer.end` does."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        time.sleep(0.2)
        torch.distributed.destroy_process_group()


RUNS: dict[str, tuple[Callable, dict]] = {
    "DistillTrainer": (
        train,
        {"trainer": DistillTrainer, "hidden_weight": 1.0, "relation_weight": 1.0, "relation_heads": 4},
    ),
    "DistillTrainer, cache": (
        train,
        {"trainer": DistillTrainer, "logits_weight": 1.0, "label_weight": 1.0, "cached": True},
    ),
    "CKDTrainer": (train, {"trainer": CKDTrainer, "queue_size": 32, "learn_temperature": True}),
    "MCLTrainer": (train, {"trainer": MCLTrainer}),
    "VocabReducedMLMTrainer": (train, {"trainer": VocabReducedMLMTrainer, "vocabulary_loss": "reduce_map"}),
    "ContrastiveTrainer": (train, {"trainer": ContrastiveTrainer, "learn_temperature": True}),
    "stages": (run_stages, {}),
    "recipe": (run_a_recipe, {}),
}
