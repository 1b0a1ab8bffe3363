"""One distillation from start to finish, as a YAML file tells it."""

from .own_tokenizer import own_tokenizer
from .recipe import Recipe, packaged_recipes, quickstart_teacher, read_recipe, read_yaml, supports_bf16
from .run import run_recipe
from .seeds import be_quiet, in_words, recipe_parser, tell, with_teacher_cache
from .student_run import resume
