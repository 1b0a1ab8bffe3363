"""retort: distil any Hugging Face encoder into a student small enough to ship."""

import importlib

__version__ = "0.1.0"

# Public names and the folder each lives in. They are imported when first used: `import retort` must not pay the
# five seconds that `transformers.Trainer` costs.
_HOMES = {
    "bilstm_student": "retort.modeling",
    "expand": "retort.modeling",
    "shrink": "retort.modeling",
    "DistillationCollator": "retort.collators",
    "mine_negatives": "retort.data",
    "tokenize": "retort.data",
    "tokenize_groups": "retort.data",
    "read_groups": "retort.data",
    "read_dataset": "retort.data",
    "read_task": "retort.data",
    "CKDTrainer": "retort.trainers",
    "CKDTrainingArguments": "retort.trainers",
    "ContrastiveTrainer": "retort.trainers",
    "ContrastiveTrainingArguments": "retort.trainers",
    "DistillTrainer": "retort.trainers",
    "DistillTrainingArguments": "retort.trainers",
    "MCLTrainer": "retort.trainers",
    "MCLTrainingArguments": "retort.trainers",
    "Stage": "retort.trainers",
    "StagedRun": "retort.trainers",
    "VocabReducedMLMTrainer": "retort.trainers",
    "VocabReducedMLMTrainingArguments": "retort.trainers",
    "cache_teacher": "retort.trainers",
    "score_groups": "retort.trainers",
    "write_vectors": "retort.trainers",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'retort' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return __all__
