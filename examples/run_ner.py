"""Distil a tagger (names, parts of speech) in XtremeDistil's stages: representations, logits, labels.

python examples/run_ner.py --teacher xlm-roberta-base --task_folder da=uner/da_ddt sv=uner/sv_talbanken \
    --layers 3 --output_dir runs/tagger --learning_rate 1e-4 --per_device_train_batch_size 64

A teacher without a head for tagging is fine-tuned first, and kept. Models are selected on dev; test is scored once, at
the end. Killed and started again, it goes on where it was. --dry_run shows the stages. Every setting that isn't among
these flags can be had in a recipe (recipes/configs/small_ner.yaml) with run_recipe.py.
"""

from retort import DistillTrainingArguments
from retort.commands import parse
from retort.recipes import run_recipe
from retort.recipes.tasks import ScheduleArguments, StudentArguments, TaskArguments, recipe_of


def main() -> None:
    """Parse, fine-tune, distil, judge, save."""
    task, student, schedule, args = parse(
        TaskArguments, StudentArguments, ScheduleArguments, DistillTrainingArguments, description=__doc__
    )
    run_recipe(recipe_of("tagging", task, student, schedule, args), dry_run=task.dry_run)


if __name__ == "__main__":
    main()
