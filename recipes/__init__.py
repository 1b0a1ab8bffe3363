"""Recipes: distillations from start to finish, described by YAML files."""

from .comparison import comparison_parser, in_words, with_teacher_cache, write_comparison
from .presence import absent_files, needs
from .run import run_recipe
from .schema import (
    Assistant,
    BiLstm,
    MaskedEvaluation,
    MaskedFiles,
    NewModel,
    NewTokenizer,
    Recipe,
    SentenceEvaluation,
    SentenceFiles,
    Static,
    Student,
    TaskEvaluation,
    TaskFiles,
    Teacher,
    converted_arguments,
    packaged_recipes,
    parse_recipe,
    read_recipe,
    read_yaml,
    recipe_path,
    supports_bf16,
)
