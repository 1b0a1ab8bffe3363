"""What each part of multi-stage distillation is worth: stages, similarities across languages, recurrence.

python benchmarks/multistage_ablation.py benchmarks/recipes/small_multistage.yaml [--seeds 0 1 2]

The recipe's assistant is trained once. Its student is trained

- `full`: as the recipe says;
- `no bottleneck`: without the stage that trains the embedding layer alone;
- `bottleneck by tokens`: with one that compares embeddings of tokens, and not their means;
- `no MCL`: with `mcl_weight` 0 in the last stage, which leaves the distance of embeddings (the paper's baseline);
- `layers once`: with the same layers, and so as many parameters, each run once;
- `layers of their own`: as deep as `full`, with a layer of the assistant's at every place.

After https://arxiv.org/abs/2209.05869, section 5. Of each run the best stage on development data is judged on the test
sets. Started again, it goes on where it was; stages that variants share are trained once for each seed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from retort import Stage
from retort.evaluation import Footprint
from retort.recipes import Recipe, comparison_parser, in_words, read_recipe, with_teacher_cache, write_comparison
from retort.recipes.sentences import SentenceRecipe
from retort.trainers import best_stage


def full(recipe: Recipe) -> Recipe:
    """As it is."""
    return recipe


def is_bottleneck(stage: Stage) -> bool:
    """Whether it trains the embeddings alone."""
    return list(stage.trainable or ()) == ["embeddings"]


def no_bottleneck(recipe: Recipe) -> Recipe:
    """Without such stages."""
    return replace(recipe, stages=tuple(stage for stage in recipe.stages if not is_bottleneck(stage)))


def bottleneck_by_tokens(recipe: Recipe) -> Recipe:
    """With another objective in them."""

    def by_tokens(stage: Stage) -> Stage:
        if not is_bottleneck(stage):
            return stage
        of_means = ("embedding_weight", "pooler", "teacher_pooler")
        kept = {name: value for name, value in stage.arguments.items() if name not in of_means}
        return replace(stage, arguments=kept | {"hidden_weight": 1.0, "layer_map": "0:0"})

    return replace(recipe, stages=tuple(map(by_tokens, recipe.stages)))


def no_mcl(recipe: Recipe) -> Recipe:
    """Without similarities."""

    def without(stage: Stage) -> Stage:
        if stage.trainer.__name__ != "MCLTrainer":
            return stage
        return replace(stage, arguments={**stage.arguments, "mcl_weight": 0.0})

    return replace(recipe, stages=tuple(map(without, recipe.stages)))


def layers_once(recipe: Recipe) -> Recipe:
    """As many parameters."""
    return replace(recipe, student=replace(recipe.student, recurrent_steps=1))


def layers_of_their_own(recipe: Recipe) -> Recipe:
    """As deep."""
    layers = recipe.student.layers
    depth = (layers if isinstance(layers, int) else len(layers)) * recipe.student.recurrent_steps
    return replace(recipe, student=replace(recipe.student, layers=depth, recurrent_steps=1))


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "full": full,
    "no bottleneck": no_bottleneck,
    "bottleneck by tokens": bottleneck_by_tokens,
    "no MCL": no_mcl,
    "layers once": layers_once,
    "layers of their own": layers_of_their_own,
}


def run(recipe: Recipe, assistant: str, variant: str, seed: int) -> dict:
    """Train a student and judge it."""
    own = VARIANTS[variant](recipe).with_seed(seed)
    caches = Path(recipe.output_dir) / "teacher-outputs"
    stages = (with_teacher_cache(s, caches / s.cache_name) if s.cache_teacher else s for s in own.stages)
    work = SentenceRecipe(replace(own, stages=tuple(stages)))
    results = work.staged_run(assistant).run()
    best = best_stage(results)
    student = work.as_sentence_model(best.folder)
    quality, parameters = work.corpus.quality(student).scores, Footprint.of(student.model).parameters
    print(f"{variant}, seed {seed}: {parameters:,} parameters; {in_words(quality)}", flush=True)
    return {
        "strategy": variant,
        "seed": seed,
        "parameters": parameters,
        "steps": sum(result.steps for result in results),
        "best": best.name,
        "test": quality,
    }


def main() -> None:
    """Train all students, print the table and write all numbers down."""
    options = comparison_parser(__doc__, VARIANTS).parse_args()
    recipe = read_recipe(options.recipe)
    if recipe.assistant is None or not (recipe.student.layers and recipe.student.recurrent_steps):
        raise SystemExit(f"{options.recipe} has no assistant whose layers a student runs several times.")
    recipe = replace(recipe, output_dir=options.output_dir or recipe.output_dir).scaled(options.scale)
    work = SentenceRecipe(recipe)
    training = work.parent_run()
    assistant = str(best_stage(training.run()).folder) if training else recipe.assistant.model
    reference = work.corpus.quality(work.as_sentence_model(assistant)).scores
    runs = [run(recipe, assistant, variant, seed) for seed in options.seeds for variant in options.variants]
    write_comparison(runs, ("assistant", reference), Path(recipe.output_dir) / "ablation.json", options)


if __name__ == "__main__":
    main()
