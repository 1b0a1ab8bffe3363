"""Compare ways of distilling the same teacher into the same student: the ablation of XtremeDistil.

python benchmarks/distillation_strategies.py benchmarks/recipes/small_ner_bilstm.yaml [--teacher FOLDER] [--seeds 0 1 2]

A recipe for tagging or classification gives teacher, student, data and stages. Its student is trained

- `staged`: as the recipe says;
- `unfreezing`: likewise, but every stage after the first unfreezes the student from its head down, so that it takes
  several times as long (the paper's choice, https://arxiv.org/abs/2004.05686, section 3);
- `joint`: with all objectives at once, labelled and unlabelled rows mixed;
- `labels`: on the labelled rows alone, without a teacher.

The last two take as many steps as `staged`, at the highest learning rate of its stages, and all start from the same
weights. Of each run the best stage on development data is judged on the test split. Started again, it goes on where it
was; the teacher's outputs are computed once.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from retort import Stage
from retort.recipes import (
    Recipe,
    Teacher,
    comparison_parser,
    in_words,
    read_recipe,
    with_teacher_cache,
    write_comparison,
)
from retort.recipes.tasks import TaskRecipe, with_head
from retort.trainers import best_stage
from retort.trainers.stages import PlannedStage

# How long a stage is, and how fast it learns; all else in its arguments says what it learns.
PACE = ("learning_rate", "num_train_epochs", "max_steps")


# --- The strategies ---------------------------------------------------------------------------------------------------


def staged(recipe: Recipe, steps: int) -> list[Stage]:
    """The recipe's own stages."""
    return list(recipe.stages)


def unfreezing(recipe: Recipe, steps: int) -> list[Stage]:
    """The first stage, and the others from the head down."""
    first, *others = recipe.stages
    return [first, *(replace(stage, gradual_unfreezing="encoder") for stage in others)]


def joint(recipe: Recipe, steps: int) -> list[Stage]:
    """One stage with the objectives of all."""
    objectives = {name: value for stage in recipe.stages for name, value in stage.arguments.items() if name not in PACE}
    return [Stage("joint", objectives | pace(recipe, steps), data="train+transfer")]


def labels(recipe: Recipe, steps: int) -> list[Stage]:
    """One stage on labels."""
    return [Stage("labels", {"label_weight": 1.0} | pace(recipe, steps))]


STRATEGIES: dict[str, Callable[[Recipe, int], list[Stage]]] = {
    "staged": staged,
    "unfreezing": unfreezing,
    "joint": joint,
    "labels": labels,
}


def pace(recipe: Recipe, steps: int) -> dict[str, float]:
    """Arguments of a stage that is alone."""
    return {"max_steps": steps, "learning_rate": max(stage.arguments["learning_rate"] for stage in recipe.stages)}


def steps_of(recipe: Recipe, teacher: str) -> int:
    """How many steps the recipe's own stages take."""

    def steps(planned: PlannedStage) -> int:
        settings = recipe.arguments_of(planned.stage)
        batches = math.ceil(planned.rows / settings["per_device_train_batch_size"])
        return math.ceil(batches * settings["num_train_epochs"])

    return sum(map(steps, TaskRecipe(recipe).staged_run(teacher).plan))


# --- The runs ---------------------------------------------------------------------------------------------------------


def fine_tuned(recipe: Recipe, folder: Path) -> str:
    """The teacher's folder; it is given its head first, if it has none."""
    fine_tuning = TaskRecipe(replace(recipe, output_dir=str(folder))).parent_run()
    return str(fine_tuning.run()[-1].folder) if fine_tuning else recipe.teacher.source


def with_cached_teacher(stage: Stage, folder: Path) -> Stage:
    """The stage, with its teacher's outputs cached in `folder`, unless it learns from labels alone."""
    objectives = sorted(name for name in stage.arguments if name.endswith("_weight"))
    if objectives == ["label_weight"]:
        return stage
    return with_teacher_cache(stage, folder / "-".join([stage.data, *objectives]))


def run(recipe: Recipe, teacher: str, strategy: str, seed: int, steps: int, folder: Path) -> dict:
    """Train a student and judge it."""
    stages = [with_cached_teacher(stage, folder / "teacher-outputs") for stage in STRATEGIES[strategy](recipe, steps)]
    # Strategies of one seed share a folder, and so a stage that they begin with.
    own = replace(recipe, stages=tuple(stages), output_dir=str(folder / f"seed-{seed}")).with_seed(seed)
    work = TaskRecipe(own)
    staged_run = work.staged_run(teacher)
    results = staged_run.run()
    best = best_stage(results)
    quality = work.data.judge(type(staged_run.student).from_pretrained(best.folder)).quality.scores
    print(f"{strategy}, seed {seed}: {in_words(quality)}", flush=True)
    return {
        "strategy": strategy,
        "seed": seed,
        "steps": sum(result.steps for result in results),
        "dev": {result.name: dict(result.scores) for result in results},
        "best": best.name,
        "test": quality,
    }


# --- The command line -------------------------------------------------------------------------------------------------


def main() -> None:
    """Train all students, print the table and write all numbers down."""
    options = parse_options()
    recipe = read_recipe(options.recipe)
    recipe = (recipe.with_teacher(options.teacher) if options.teacher else recipe).scaled(options.scale)
    folder = Path(options.output_dir or f"runs/benchmarks/strategies-{Path(options.recipe).stem}")
    teacher = fine_tuned(recipe, folder)
    work = TaskRecipe(replace(recipe, teacher=Teacher(teacher)))
    quality = work.teacher_data.judge(with_head(teacher, work.task)).quality.scores
    print(f"teacher: {in_words(quality)}", flush=True)
    steps = steps_of(recipe, teacher)
    runs = [
        run(recipe, teacher, strategy, seed, steps, folder) for seed in options.seeds for strategy in options.strategies
    ]
    write_comparison(runs, ("teacher", quality), folder / "strategies.json", options)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = comparison_parser(__doc__, STRATEGIES, flag="--strategies")
    parser.add_argument("--teacher", help="one that has its head (default: the recipe's, fine-tuned as it says)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
