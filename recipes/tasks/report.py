"""Teacher, untrained and trained student side by side on a task's test split, in PyTorch and as ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from ...data.tasks import Task
from ...evaluation.cost import Footprint, OnnxModel
from ...evaluation.report import ModelRow, Report, Role, build_report
from ...evaluation.tasks import EntityScores
from ...modeling.onnx import FLOAT32_FILE, INT8_FILE, quantize_int8
from ...trainers.saving import save_onnx
from ...trainers.stages import StageResult
from .students import TaskData, with_head

if TYPE_CHECKING:
    from .recipe import TaskRecipe

# Of the test split, for speed.
TEXTS = 256


def task_report(
    work: TaskRecipe, teacher: str, untrained: PreTrainedModel, best: StageResult
) -> tuple[Report, EntityScores | None]:
    """Judge all of them in one run.

    Args:
        work: the recipe.
        teacher: the fine-tuned teacher's folder.
        untrained: the student before its first stage.
        best: the student's best stage.

    Returns:
        The report, and all that there is to say of a tagger's entities.
    """
    split = "test" if "test" in work.task.splits else "dev"
    models = {work.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, with_head(teacher, work.task))}
    student = type(untrained).from_pretrained(best.folder)
    models |= {"student, untrained": (Role.UNTRAINED, untrained), "student": (Role.STUDENT, student)}
    if work.recipe.evaluation.get("onnx"):
        models |= exported(student, work.data, Path(work.recipe.output_dir) / "onnx")
    data = {name: work.teacher_data if role == Role.TEACHER else work.data for name, (role, _) in models.items()}
    judged = {name: data[name].judge(model, split) for name, (_, model) in models.items()}
    rows = [
        ModelRow.of(
            name,
            role,
            model,
            judged[name].quality,
            Footprint.of_file(model.path, student) if role == Role.EXPORTED else None,
        )
        for name, (role, model) in models.items()
    ]
    report = build_report(
        rows,
        {name: on_texts(data[name], model) for name, (_, model) in models.items()},
        sample(work.task, split),
        best.log_history,
        measured=f"Scores: {len(work.task.splits[split]):,} rows of the {split} split.",
        timed="from words to predictions, float32 but where named otherwise",
    )
    return report, judged["student"].entities


def exported(student: PreTrainedModel, data: TaskData, folder: Path) -> dict[str, tuple[Role, OnnxModel]]:
    """The student as ONNX files, in float32 and in int8, in a folder of their own."""
    save_onnx(student, data.tokenizer, folder, beside_model=False)
    quantize_int8(folder)
    files = {"student, ONNX": FLOAT32_FILE, "student, ONNX int8": INT8_FILE}
    return {name: (Role.EXPORTED, OnnxModel(folder, file)) for name, file in files.items()}


def on_texts(data: TaskData, model: Any) -> Callable[[list[str]], object]:
    """A model as a function of texts; of taggers, words with spaces between them."""
    predict = data.predictor(model)
    if data.task.kind == "tagging":
        return lambda texts: predict([text.split(" ") for text in texts])
    if data.task.pairs:
        return lambda texts: predict(*zip(*(text.split("\t") for text in texts), strict=True))
    return predict


def sample(task: Task, split: str) -> list[str]:
    """Texts of a split, in the form that `on_texts` takes."""

    def texts() -> Iterator[str]:
        for row in task.splits[split]:
            if task.kind == "tagging":
                yield " ".join(row["words"])
            else:
                yield f"{row['text']}\t{row['text_pair']}" if task.pairs else row["text"]

    return list(islice(texts(), TEXTS))
