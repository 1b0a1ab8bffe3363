"""What each way of distilling into a smaller vocabulary is worth, under one budget.

python benchmarks/vocabulary_ablation.py benchmarks/recipes/small_vocab.yaml --vocab_sizes 16000 5000 \
    --classification intents=data/cls/nlu_intents/ru:labels.txt --tagging entities=data/ner/factrueval2016/ru

The recipe's teacher is trained once, if there is none. Its student is trained, with each size of vocabulary, on

- `MLM`: hidden tokens alone, without its teacher;
- `match`, `reduce`, `reduce_map`: hidden tokens, and its teacher's distributions (see `--vocabulary_loss`);
- `MSE`, `contrast`, `hyperbolic`: hidden tokens, and its teacher's hidden states.

After https://arxiv.org/abs/2205.02340. Each is judged by what hidden words of the recipe's test files cost, and by the
tasks named, for which it is fine-tuned; the teacher once with each seed. Started again, it goes on where it was.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from retort import Stage
from retort.evaluation import Footprint
from retort.evaluation.tasks import MaskedModel
from retort.recipes import (
    NewTokenizer,
    Recipe,
    Student,
    TaskEvaluation,
    TaskFiles,
    Teacher,
    comparison_parser,
    in_words,
    read_recipe,
    write_comparison,
)
from retort.recipes.masked import MaskedRecipe
from retort.recipes.tasks import TaskRecipe, with_head
from retort.trainers import best_stage

# No teacher. Where a variant compares hidden states, it does so at the top of both models.
NOTHING = {"vocabulary_weight": 0.0, "hidden_weight": 0.0, "contrast_weight": 0.0, "layer_map": "last"}

VARIANTS = {
    "MLM": {},
    "match": {"vocabulary_weight": 2.0, "vocabulary_loss": "match"},
    "reduce": {"vocabulary_weight": 2.0, "vocabulary_loss": "reduce"},
    "reduce_map": {"vocabulary_weight": 2.0, "vocabulary_loss": "reduce_map"},
    "MSE": {"hidden_weight": 0.1},
    "contrast": {"contrast_weight": 0.1},
    "hyperbolic": {"contrast_weight": 0.1, "contrast_space": "hyperbolic"},
}

# The same for teacher and students.
FINE_TUNING = {
    "num_train_epochs": 8,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5.0e-4,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_score",
}

BITS = "bits per hidden character"


def variant_of(recipe: Recipe, name: str, vocab_size: int, seed: int) -> MaskedRecipe:
    """The recipe with the objectives of a variant in place of its own."""
    changes = NOTHING | VARIANTS[name]
    stages = tuple(replace(stage, arguments={**stage.arguments, **changes}) for stage in recipe.stages)
    student = replace(recipe.student, tokenizer=NewTokenizer(vocab_size))
    return MaskedRecipe(replace(recipe, stages=stages, student=student).with_seed(seed))


def judge(
    model: MaskedModel, folder: Path, work: MaskedRecipe, tasks: Mapping[str, Mapping[str, str]], seeds: Sequence[int]
) -> dict[str, float]:
    """What a masked language model is worth: on tasks, with each of `seeds`, their mean first; and on hidden words."""
    scores = {name: fmean(fine_tuned(folder, data, seed) for seed in seeds) for name, data in tasks.items()}
    mean = {"mean of tasks": fmean(scores.values())} if scores else {}
    return {**mean, **scores, BITS: model.bits_per_character(work.text.test)}


def fine_tuned(folder: Path, data: Mapping[str, str], seed: int) -> float:
    """The first of a task's scores on its test split, after fine-tuning."""
    stage = Stage("fine-tuning", FINE_TUNING | {"seed": seed})
    output = folder / data["task"]
    teacher = Teacher(str(folder), fine_tuning=stage)
    work = TaskRecipe(Recipe(teacher, Student(), TaskFiles(**data), (), TaskEvaluation(), str(output)))
    finished = best_stage(work.parent_run().run()).folder
    return next(iter(work.teacher_data.judge(with_head(finished, work.task), "test").quality.scores.values()))


def run(recipe: Recipe, teacher: Path | str, variant: str, vocab_size: int, seed: int, tasks: Mapping) -> dict:
    """Train a student and judge it."""
    work = variant_of(recipe, variant, vocab_size, seed)
    results = work.staged_run(teacher).run()
    best = best_stage(results)
    student = work.as_masked_model(best.folder, work.tokenizer)
    size = Footprint.of(student.model)
    quality = judge(student, best.folder, work, tasks, [seed])
    print(
        f"{variant}, {vocab_size:,} tokens, seed {seed}: {size.parameters:,} parameters; {in_words(quality)}",
        flush=True,
    )
    return {
        "strategy": f"{variant}, {vocab_size:,}",
        "seed": seed,
        "parameters": size.parameters,
        "megabytes": size.megabytes,
        "steps": sum(result.steps for result in results),
        "test": quality,
    }


def main() -> None:
    """Train all students, print the tables and write all numbers down."""
    options = parse_options()
    recipe = read_recipe(options.recipe)
    recipe = replace(recipe, output_dir=options.output_dir or recipe.output_dir).scaled(options.scale)
    work = MaskedRecipe(recipe)
    if not work.text.test:
        raise SystemExit(f"{options.recipe} has no evaluation: test_files to judge students by.")
    tasks = dict(options.tasks)
    training = work.parent_run()
    teacher = best_stage(training.run()).folder if training else recipe.teacher.source
    model = work.as_masked_model(teacher, work.teacher_tokenizer)
    beside = Path(recipe.output_dir) / "teacher" / "tasks"
    reference = judge_teacher(model, beside, work, tasks, options.seeds)
    runs = [
        run(recipe, teacher, variant, size, seed, tasks)
        for seed in options.seeds
        for size in options.vocab_sizes
        for variant in options.variants
    ]
    output = Path(recipe.output_dir) / "ablation.json"
    write_comparison(runs, ("teacher", reference), output, options, metrics=list(reference))


def judge_teacher(
    model: MaskedModel, folder: Path, work: MaskedRecipe, tasks: Mapping, seeds: Sequence[int]
) -> dict[str, float]:
    """The teacher's scores; it is written beside what it is fine-tuned to, as it may lie elsewhere."""
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    quality, size = judge(model, folder, work, tasks, seeds), Footprint.of(model.model)
    print(f"teacher: {size.parameters:,} parameters, {size.megabytes:.1f} MB; {in_words(quality)}", flush=True)
    return quality


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = comparison_parser(__doc__, VARIANTS)
    parser.add_argument("--vocab_sizes", type=int, nargs="+", default=[16000], help="of students (default: 16000)")
    for kind in ("classification", "tagging"):
        parser.add_argument(
            f"--{kind}",
            metavar="NAME=FOLDER[:LABELS]",
            dest="tasks",
            action="append",
            default=[],
            type=partial(task, kind),
            help="a task to fine-tune for, with train and test files, and perhaps a file of its labels, one per line, "
            "where the test has some that train lacks; may be given again",
        )
    return parser.parse_args()


def task(kind: str, named: str) -> tuple[str, dict[str, str]]:
    """A task's name, and what a recipe says of its data."""
    name, _, where = named.partition("=")
    folder, _, labels = where.partition(":")
    return name, {"task": kind, "folders": folder} | ({"labels": labels} if labels else {})


if __name__ == "__main__":
    main()
