"""retort: distil any Hugging Face encoder into a student small enough to ship."""

import importlib

__version__ = "0.1.0"

# Public names and their modules. They are imported on first use, since importing `transformers.Trainer` takes five
# seconds.
_HOMES = {
    "SentenceEncoder": "retort.modeling.encoding",
    "bilstm_student": "retort.modeling",
    "expand": "retort.modeling",
    "shrink": "retort.modeling",
    "static_student": "retort.modeling",
    "mine_negatives": "retort.data",
    "read_dataset": "retort.data",
    "read_groups": "retort.data",
    "read_parallel": "retort.data",
    "read_sts": "retort.data.readers",
    "read_task": "retort.data",
    "read_texts": "retort.data",
    "tokenize": "retort.data",
    "tokenize_groups": "retort.data",
    "tokenize_spans": "retort.data",
    "trim_tokenizer": "retort.data",
    "DistillationCollator": "retort.collators",
    "CKDTrainer": "retort.trainers",
    "CKDTrainingArguments": "retort.trainers",
    "ContrastiveTrainer": "retort.trainers",
    "ContrastiveTrainingArguments": "retort.trainers",
    "DistillTrainer": "retort.trainers",
    "DistillTrainingArguments": "retort.trainers",
    "MCLTrainer": "retort.trainers",
    "MCLTrainingArguments": "retort.trainers",
    "ScoreOnDev": "retort.trainers",
    "Stage": "retort.trainers",
    "StagedRun": "retort.trainers",
    "VocabReducedMLMTrainer": "retort.trainers",
    "VocabReducedMLMTrainingArguments": "retort.trainers",
    "cache_teacher": "retort.trainers",
    "last_complete_checkpoint": "retort.trainers.saving",
    "score_groups": "retort.trainers",
    "write_vectors": "retort.trainers",
    "score_sts": "retort.evaluation.sentences",
    "score_task": "retort.recipes.tasks",
    "read_recipe": "retort.recipes",
    "run_recipe": "retort.recipes",
    "ScriptParser": "retort.commands",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'retort' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return __all__
