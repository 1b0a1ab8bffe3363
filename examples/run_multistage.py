"""Distil a sentence encoder into other languages, and into a small recurrent student, one stage at a time.

python examples/run_multistage.py --stage translations --teacher all-MiniLM-L6-v2 --vocab_size 64000 \
    --parallel_files en-de.tsv en-ru.tsv --output_dir runs/assistant
python examples/run_multistage.py --stage bottleneck --teacher runs/assistant --layers 0 1 2 --recurrent_steps 4 \
    --embedding_size 128 --parallel_files en-de.tsv en-ru.tsv --output_dir runs/bottleneck
python examples/run_multistage.py --stage recurrent --teacher runs/assistant --model runs/bottleneck \
    --parallel_files en-de.tsv en-ru.tsv --output_dir runs/small
python examples/run_multistage.py --stage mcl --teacher all-MiniLM-L6-v2 --model runs/small \
    --parallel_files en-de.tsv en-ru.tsv --output_dir runs/final

The stages of Ding et al. 2022 (arXiv:2209.05869); what is learnt of the teacher:

  translations  its embeddings of sentences, for the sentences and for their translations
  bottleneck    its embedding layer's, by the student's embedding layer alone (the teacher is an assistant)
  recurrent     its embedding of each text, in whatever language (likewise)
  mcl           as translations, and its similarities of sentences with one another, across languages

Any argument of the stage's trainer can be changed by its flag. Runs as it is, or under torchrun, accelerate or
deepspeed on several GPUs. Killed and started again, it goes on from its last checkpoint. All stages by one command:
retort distill multistage_xlmr.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers.hf_argparser import HfArg

from retort import MCLTrainer, Stage
from retort.commands import named_file, parse_given
from retort.recipes import (
    NewTokenizer,
    Recipe,
    SentenceEvaluation,
    SentenceFiles,
    Student,
    Teacher,
    number_or_layers,
    run_recipe,
)

EMBEDDINGS = {"embedding_weight": 1.0, "embedding_loss": "mse"}
POOLERS = {"pooler", "teacher_pooler"}
STAGES = {
    "translations": Stage("translations", {"mcl_weight": 0.0}, data="translations", trainer=MCLTrainer),
    "bottleneck": Stage(
        "bottleneck",
        EMBEDDINGS | {"pooler": "mean_first", "teacher_pooler": "mean_first"},
        trainable=("embeddings",),
    ),
    "recurrent": Stage("recurrent", EMBEDDINGS),
    "mcl": Stage("mcl", {}, data="translations", trainer=MCLTrainer),
}


@dataclass
class StageArguments:
    """Stage, teacher, student and text."""

    stage: Literal[tuple(STAGES)] = HfArg(help="What is learnt; further defaults follow from it.")
    teacher: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    model: str | None = HfArg(
        default=None, help="The student before this stage: hub id or folder. Default: made of the teacher, as follows."
    )
    layers: list[int] | None = HfArg(default=None, help="How many of the teacher's, or which, from 0. Default: all.")
    recurrent_steps: int | None = HfArg(
        default=None, help="How often these layers are run, one after the other and over again."
    )
    embedding_size: int | None = HfArg(default=None, help="Width of factorised word embeddings.")
    vocab_size: int | None = HfArg(
        default=None, help="Train a tokenizer of so many tokens on the text. Default: the teacher's."
    )
    parallel_files: list[str] = HfArg(
        default_factory=list,
        help="A sentence, a tab and its translation per line (also .gz); or two files whose rows translate each "
        "other, as in en.tsv:text+de.tsv:text.",
    )
    train_files: list[str] = HfArg(
        default_factory=list, help="Further text for bottleneck and recurrent, as in run_distill.py."
    )
    alpha: float = HfArg(default=1.0, help="Files are seen in proportion to their size to this power; 0: all alike.")
    max_length: int = HfArg(default=128, help="Tokens to which texts are cut.")
    sts_dev: list[str] = HfArg(
        default_factory=list,
        help="[name=]TSV of sentence1, sentence2, score, or two that translate each other (en.tsv+de.tsv): with "
        "--eval_strategy the mean of their Spearman correlations is reported as eval_sts.",
    )
    sts_test: list[str] = HfArg(default_factory=list, help="Likewise; scored once, at the end. Never selected on.")
    bitext: list[str] = HfArg(
        default_factory=list, help="[name=]TSV of sentences and translations that are to find each other."
    )
    dry_run: bool = HfArg(default=False, help="Show what the stage would train, and stop.")

    def student(self) -> Student:
        """As a recipe says it."""
        return Student(
            model=self.model,
            layers=number_or_layers(self.layers),
            recurrent_steps=self.recurrent_steps,
            embedding_size=self.embedding_size,
            tokenizer=NewTokenizer(self.vocab_size) if self.vocab_size else None,
        )


def main() -> None:
    """Parse, and run the stage as a recipe of its own."""
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--stage", choices=STAGES, default="recurrent")
    stage = STAGES[chosen.parse_known_args()[0].stage]
    options, settings = parse_given(
        StageArguments, stage.trainer.arguments_class, description=__doc__, defaults=stage.arguments
    )
    run_recipe(recipe_of(stage, options, settings), dry_run=options.dry_run)


def recipe_of(stage: Stage, options: StageArguments, settings: dict[str, Any]) -> Recipe:
    """A recipe of one stage; `settings` are its trainer's."""
    output_dir, push = settings.pop("output_dir"), settings.pop("push_to_hub", False)
    hub_id = settings.pop("hub_model_id", None) or output_dir.rstrip("/").rsplit("/", 1)[-1]
    # Of models, by which they are judged as well; a stage's own say what alone is compared there.
    poolers = {name: settings.pop(name) for name in POOLERS - stage.arguments.keys() if name in settings}
    measures = {"sts_dev": options.sts_dev, "sts_test": options.sts_test, "bitext": options.bitext}
    return Recipe(
        teacher=Teacher(options.teacher),
        student=options.student(),
        data=SentenceFiles(
            parallel_files=options.parallel_files,
            train_files=options.train_files,
            alpha=options.alpha,
            max_length=options.max_length,
        ),
        stages=(replace(stage, arguments=settings),),
        arguments=poolers,
        evaluation=SentenceEvaluation(**{name: dict(map(named_file, files)) for name, files in measures.items()}),
        output_dir=output_dir,
        push_to_hub=hub_id if push else None,
    )


if __name__ == "__main__":
    main()
