"""One distillation from start to finish, as a YAML file tells it."""

from .comparison import comparison_parser, in_words, with_teacher_cache, write_comparison
from .recipe import Recipe, number_or_layers, packaged_recipes, read_recipe, read_yaml, supports_bf16
from .run import run_recipe
from .student_recipe import train_and_save
from .tokenizers import student_tokenizer
