"""The types of a recipe, and reading and checking recipe files."""

from .arguments import converted_arguments
from .data import MaskedEvaluation, MaskedFiles, SentenceEvaluation, SentenceFiles, TaskEvaluation, TaskFiles
from .entries import files_of, is_there
from .errors import settable, types_of
from .models import Assistant, BiLstm, NewModel, NewTokenizer, Static, Student, Teacher, given
from .read import packaged_recipes, parse_recipe, read_recipe, recipe_path
from .recipe import Recipe
from .values import in_words, supports_bf16
from .yaml_files import read_yaml
