"""A report of several models: made, and written to disk."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from ...data import replace_files, write_json
from ..cost import compare_speed, describe_machine
from .report import ModelRow, Report, Role, loss_history


def build_report(
    rows: Iterable[ModelRow],
    encoders: Mapping[str, Callable[[list[str]], object]],
    texts: Sequence[str],
    log_history: Iterable[Mapping[str, float]],
    *,
    measured: str,
    timed: str = "float32",
) -> Report:
    """Time models side by side, and report on them.

    Models of one architecture, as a student before and after its training, are timed once: what else runs on the
    machine would tell them apart.

    Args:
        rows: the models, without their speeds. The first is the one that others are compared with, and the first
            metric of its quality is the report's.
        encoders: name of each row -> what is timed, as `compare_speed` takes it.
        texts: for speed.
        log_history: of the student's trainer.
        measured: what the quality was measured on, in sentences.
        timed: what part of the models is timed, and in which precision.
    """
    rows = list(rows)
    timed_as: dict[object, str] = {}
    for row in rows:
        timed_as.setdefault(_architecture(row), row.name)
    speeds = compare_speed({name: encoders[name] for name in timed_as.values()}, texts)
    return Report(
        rows=tuple(replace(row, speed=speeds[timed_as[_architecture(row)]]) for row in rows),
        metric=next(iter(rows[0].quality)),
        losses=loss_history(log_history),
        measured=f"{measured} Speed: {timed}, padded batches of 32 and of 1, medians of interleaved rounds on "
        f"{describe_machine()}.",
    )


def _architecture(row: ModelRow) -> object:
    """Equal for models that run alike; an exported one runs as no other does."""
    return row.name if row.role == Role.EXPORTED else (row.footprint, row.layers)


def require_drawing() -> None:
    """Raise what `write_report` would raise for want of a library, before a run that ends with a report.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - of an extra
    except ImportError as error:
        raise ImportError(
            "Reports are drawn by matplotlib, which is not installed: pip install 'retort[report]'."
        ) from error


def write_report(report: Report, folder: str | os.PathLike) -> None:
    """Write `report.json` (all numbers, and the title) and `report.png` into `folder`, which is made if need be.

    Both appear whole or not at all, and replace older ones only when both are whole.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require_drawing()
    from .figure import draw

    with replace_files(folder) as staging:
        write_json(staging / "report.json", {"title": report.title} | asdict(report))
        draw(report).savefig(staging / "report.png", format="png")
