"""Distil by a recipe: a YAML file that names teacher, student, data, stages and evaluation.

python examples/run_recipe.py examples/recipes/quickstart.yaml [--teacher ...] [--output_dir ...]

A run that was killed goes on from its last checkpoint when it is started again. Recipes of several stages, and of
other tasks than sentence embeddings, are to come.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import transformers
from command_line import read_yaml
from sentence_students import SentenceModel, how_to_use, load_sentence_teacher, resume, side_by_side, supports_bf16
from teachers import packaged_model

from retort import DistillTrainer, DistillTrainingArguments, shrink, tokenize
from retort.collators import DocstringCorpus, docstring_corpus, passages
from retort.evaluation import Report, Role, markdown_table, retrieval_scores, text_table, write_report
from retort.trainers.card_facts import is_hub_id

SECTIONS = {"teacher", "student", "data", "stages", "evaluation", "output_dir"}


def main() -> None:
    """Run the recipe named on the command line."""
    options = parse_options()
    recipe = read_recipe(options.recipe)
    source, name = teacher_source(recipe, options.teacher)
    output_dir = Path(options.output_dir or default_output_dir(recipe, options.teacher))
    teacher = load_sentence_teacher(source, recipe["data"]["max_length"])
    corpus = docstring_corpus()
    print(
        f"Teacher: {name}. Text: {len(corpus.sentences['train']):,} sentences from the docstrings of Python's standard "
        f"library; {len(corpus.pairs['test'])} of its docstrings, from other modules, are for the test."
    )
    untrained = teacher.with_model(shrink(teacher.model, **recipe["student"]).eval())
    trainer = train(recipe, output_dir, source, teacher, corpus, push_to=options.push_to_hub)
    student = teacher.with_model(trainer.student)
    report = judge(name, teacher, untrained, student, corpus, trainer.state.log_history)
    finish(trainer, report, recipe, name, output_dir)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file such as examples/recipes/quickstart.yaml")
    parser.add_argument("--teacher", help="another teacher: a hub id or a folder")
    parser.add_argument("--output_dir", help="where to write (default: as the recipe says)")
    parser.add_argument("--push_to_hub", metavar="ID", help="push the finished student to this hub id")
    return parser.parse_args()


def read_recipe(path: str) -> dict:
    """Read a recipe and refuse what this version can't run.

    Raises:
        SystemExit: unknown or missing sections, another number of stages than one, another corpus or evaluation.
    """
    recipe = read_yaml(path)
    if recipe.keys() != SECTIONS:
        raise SystemExit(
            f"{path}: a recipe has the sections {', '.join(sorted(SECTIONS))}; here, "
            f"{', '.join(sorted(recipe.keys() ^ SECTIONS))} are missing or unknown."
        )
    stages = recipe["stages"]
    if len(stages) != 1 or stages[0]["trainer"] != "DistillTrainer":
        raise SystemExit(f"{path}: this version runs recipes of one stage with trainer: DistillTrainer.")
    if (recipe["data"]["corpus"], recipe["evaluation"]) != ("docstrings", "retrieval"):
        raise SystemExit(f"{path}: this version knows data.corpus: docstrings and evaluation: retrieval.")
    return recipe


def teacher_source(recipe: dict, override: str | None) -> tuple[str, str]:
    """Where the teacher lies, and what to call it."""
    if override:
        return override, override
    named = recipe["teacher"]
    if isinstance(named, str):
        return named, named
    return str(packaged_model(named["package"], named["folder"], named["sha256"])), named["name"]


def default_output_dir(recipe: dict, teacher: str | None) -> str:
    """The recipe's, or one beside it for another teacher, whose run must not go on from the first one's checkpoints."""
    return f"{recipe['output_dir']}-{Path(teacher).resolve().name}" if teacher else recipe["output_dir"]


def train(
    recipe: dict,
    output_dir: Path,
    source: str,
    teacher: SentenceModel,
    corpus: DocstringCorpus,
    push_to: str | None = None,
) -> DistillTrainer:
    """Train the recipe's stage, from its last checkpoint if there is one."""
    settings = dict(recipe["stages"][0]["arguments"])
    if settings.get("bf16") == "auto":
        settings["bf16"] = supports_bf16()
    if "teacher_cache" in settings:
        settings["teacher_cache"] = str(output_dir / settings["teacher_cache"])
    args = DistillTrainingArguments(
        output_dir=str(output_dir), pooler=teacher.pooling.pooler, hub_model_id=push_to, report_to=[], **settings
    )
    texts = passages(corpus.sentences["train"], source="module")
    trainer = DistillTrainer(
        shrink(teacher.model, **recipe["student"]),
        source,
        args,
        train_dataset=tokenize(texts, teacher.tokenizer, max_length=teacher.pooling.max_length),
        processing_class=teacher.tokenizer,
    )
    resume(trainer)
    return trainer


def judge(
    name: str,
    teacher: SentenceModel,
    untrained: SentenceModel,
    student: SentenceModel,
    corpus: DocstringCorpus,
    log_history: list[dict],
) -> Report:
    """Set the models side by side on modules that no one was trained on."""
    pairs, sentences = corpus.pairs["test"], corpus.sentences["test"]["text"]

    def retrieval(model: SentenceModel) -> dict[str, float]:
        scores = retrieval_scores(model.embed(pairs["summary"]), model.embed(pairs["details"]))
        return {"MRR@10": scores["mrr@10"], "recall@1": scores["recall@1"], "recall@10": scores["recall@10"]}

    print("\nMeasuring quality and speed of teacher, untrained and trained student ...", flush=True)
    return side_by_side(
        {
            name.rsplit("/", 1)[-1]: (Role.TEACHER, teacher),
            "student, untrained": (Role.UNTRAINED, untrained),
            "student": (Role.STUDENT, student),
        },
        retrieval,
        sentences,
        log_history,
        measured=f"Retrieval: a docstring's details by its summary, among the {len(pairs)} of modules of Python's "
        "standard library that were not trained on. Agreement: Spearman correlation of the cosines of "
        f"{min(len(sentences), 1000):,} sentences of those modules.",
    )


def finish(trainer: DistillTrainer, report: Report, recipe: dict, name: str, output_dir: Path) -> None:
    """Write student, card and report, and say how to use them."""
    trainer.create_model_card(
        output_dir.name,
        teachers=(name,),
        base_models=(name,) if is_hub_id(name) else (),
        summary=report.title,
        results=markdown_table(report),
        measured=report.measured,
        data={"passages from the docstrings of Python's standard library": len(trainer.train_dataset)},
    )
    trainer.save_model()
    write_report(report, output_dir)
    if trainer.args.hub_model_id:
        trainer.push_to_hub()
    print(f"\n{text_table(report)}\n\nStudent, model card, report.json and report.png: {output_dir}/")
    print(f"\n{how_to_use(output_dir)}\n")


if __name__ == "__main__":
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()  # of loading and saving: gone before one can read it
    main()
