"""Distil a classifier of texts or pairs of texts in XtremeDistil's stages: representations, logits, labels.

python examples/run_classification.py --teacher bert-base-cased --task_folder agnews --layers 3 --output_dir runs/topics
python examples/run_classification.py --teacher bert-base-cased --task_name mrpc --layers 3 --output_dir runs/mrpc

--task_name takes a GLUE task from the Hub, with its published metric; its test labels are secret, so dev is reported.
As with run_ner.py, a teacher without a head is fine-tuned first, and what was killed goes on where it was.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import DistillTrainingArguments
from retort.commands import parse
from retort.evaluation.metrics import MEASURES
from retort.recipes import run_recipe
from retort.recipes.tasks import ScheduleArguments, StudentArguments, TaskArguments, recipe_of

# GLUE's tasks on single texts; all others are on pairs.
SINGLE_TEXTS = ("cola", "sst2")


@dataclass
class ClassificationArguments:
    """What only classification has."""

    do_pairwise: bool = HfArg(default=False, help="Rows are text1, text2, label.")
    task_name: str | None = HfArg(
        default=None, help=f"A GLUE task, from the Hub: {', '.join(MEASURES)}. Brings data and metric."
    )
    metric: str | None = HfArg(
        default=None, help="A GLUE task whose metric to take, or the folder of an evaluate module. Default: accuracy."
    )


def main() -> None:
    """Parse, fine-tune, distil, judge, save."""
    flags, task, student, schedule, args = parse(
        ClassificationArguments,
        TaskArguments,
        StudentArguments,
        ScheduleArguments,
        DistillTrainingArguments,
        description=__doc__,
    )
    pairs = flags.do_pairwise
    if flags.task_name:
        if flags.task_name not in MEASURES:
            raise SystemExit(f"GLUE has the tasks {', '.join(MEASURES)}, but not {flags.task_name}.")
        task.task_folder = [f"nyu-mll/glue:{flags.task_name}"]
        pairs = flags.task_name not in SINGLE_TEXTS
    metric = flags.metric or flags.task_name
    recipe = recipe_of("classification", task, student, schedule, args, metric=metric, pairs=pairs)
    run_recipe(recipe, dry_run=task.dry_run)


if __name__ == "__main__":
    main()
