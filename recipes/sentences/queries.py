"""Checks of recipes with queries: the teacher's prompts, and the space of a query encoder's embeddings."""

from collections.abc import Mapping, Sequence

from ...modeling.encoding import SentenceModules
from ...trainers import CKDTrainer, MCLTrainer
from ...trainers.stages import Stage
from ..schema import Recipe


def prompts_of_rows(
    recipe: Recipe, stages: Sequence[Stage], teacher: SentenceModules | None
) -> Mapping[str, str | None]:
    """The prompts that the rows of stages begin with for the teacher.

    Args:
        recipe: the recipe, for the arguments of all stages.
        stages: the stages of the student, or those of the assistant.
        teacher: the teacher's modules; None if it is given by vectors.

    Returns:
        Name of rows -> name of a prompt; None for the default prompt.

    Raises:
        SystemExit: stages want different prompts for the same rows; the teacher has no prompt of this name; or a stage
            reads queries without the teacher's prompt for them.
    """
    names: dict[str, str | None] = {}
    for stage in stages:
        settings = recipe.arguments_of(stage)
        name, evaluates = settings.get("teacher_prompt_name"), settings.get("eval_strategy", "no") != "no"
        if names.setdefault(stage.data, name) != name:
            raise SystemExit(
                f"stages.{stage.name}: teacher_prompt_name is {name or 'not set'}, but in an earlier stage with data: "
                f"{stage.data} it is {names[stage.data] or 'not set'}. Stages with the same data need the same prompt."
            )
        if teacher and name is not None and name not in teacher.prompts:
            known = ", ".join(teacher.prompts) or "none"
            raise SystemExit(
                f"stages.{stage.name}: teacher_prompt_name is {name}, but the teacher has no such prompt. Its prompts: "
                f"{known}. Name one of them, or leave it out."
            )
        if teacher and evaluates and teacher.prompt(name) != teacher.prompt():
            raise SystemExit(
                f"stages.{stage.name}: its rows begin with the prompt {name}, but the development set, on which it is "
                "evaluated while it trains, does not. Leave eval_strategy out in this stage."
            )
        if teacher and stage.data == "queries" and teacher.query_prompt not in ("", teacher.prompt(name)):
            raise SystemExit(
                f"stages.{stage.name}: the teacher's prompt for queries is {teacher.query_prompt!r}, but here it would "
                f"read them with {teacher.prompt(name)!r}. Set teacher_prompt_name: query in this stage."
            )
    return names


def check_space(recipe: Recipe, student: int, teacher: int) -> None:
    """Refuse a student of queries whose embeddings would not be in the space of its teacher's.

    Args:
        recipe: a recipe with `queries_only`.
        student: width of the student's hidden states.
        teacher: width of the teacher's embeddings.

    Raises:
        SystemExit: a stage doesn't compare embeddings, trains short vectors, or drops its projector.
    """
    for stage in recipe.stages:
        settings = recipe.arguments_of(stage)
        teaches_vectors = settings.get("embedding_weight") or stage.trainer in (CKDTrainer, MCLTrainer)
        if not teaches_vectors:
            raise SystemExit(
                f"student.queries_only: queries are compared with the teacher's documents, but stages.{stage.name} "
                "doesn't compare the student's vectors with the teacher's. Set embedding_weight."
            )
        if settings.get("truncate_dims") or settings.get("quantization_aware"):
            raise SystemExit(
                f"stages.{stage.name}: truncate_dims and quantization_aware shorten the vectors of queries, but not "
                "those of the teacher's documents (student.queries_only). Leave them out."
            )
        projected = settings.get("projector") == "linear" or student != teacher
        if projected and not settings.get("keep_projector"):
            raise SystemExit(
                f"student.queries_only: queries are compared with the teacher's documents, but stages.{stage.name} "
                "drops its projector, which maps them to the teacher's embeddings. Set keep_projector: true."
            )
