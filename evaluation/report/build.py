"""Builds a report of several models, and writes it to disk."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from ...data import replace_files, write_json
from ..cost import Footprint, Speed, compare_speed, describe_machine
from .report import ModelRow, Report, Role, VectorRow, dev_history, loss_history

_ABOUT_INTERVALS = " Intervals: 95 %, by a bootstrap over the test data."


def build_report(
    rows: Iterable[ModelRow],
    encoders: Mapping[str, Callable[[list], object]],
    texts: Sequence,
    log_history: Sequence[Mapping[str, float]],
    *,
    measured: str,
    test_set: str = "",
    dev_names: Mapping[str, str] | None = None,
    timed: str = "float32",
) -> Report:
    """Measure the speed of models, and make a report.

    Models of the same architecture, such as a student before and after training, are timed once, since other load on
    the machine would make them differ.

    Args:
        rows: the models, without their speeds. The first is the reference, and the first metric of its quality is the
            report's metric.
        encoders: name of each row -> function to time (see `compare_speed`).
        texts: texts for the speed measurement.
        log_history: log of the student's trainer.
        measured: description of the evaluation, in sentences.
        test_set: short description of the test data, for an axis.
        dev_names: names of scores on development data (see `dev_history`).
        timed: the timed part of the models, and its precision.
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
        measured=f"{measured}{_ABOUT_INTERVALS if any(row.intervals for row in rows) else ''} Speed: {timed}, padded "
        f"batches of 32 and of 1, medians of interleaved rounds on {describe_machine()}.",
        test_set=test_set,
        dev=dev_history(log_history, dev_names),
    )


def _architecture(row: ModelRow) -> object:
    """A key that is equal for models of the same architecture and format."""
    return row.name if row.role == Role.EXPORTED else (row.footprint, row.layers)


def require_drawing() -> None:
    """Check that `write_report` has the library that it needs, before a run that ends with a report.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - of an extra
    except ImportError as error:
        raise ImportError("Reports need matplotlib, which is not installed: pip install 'retort[report]'.") from error


def write_report(report: Report, folder: str | os.PathLike) -> None:
    """Write `report.json` (all numbers, and the title) and `report.png` into `folder`, which is created if needed.

    The files are written atomically, and only replace older ones when both are complete.

    Raises:
        ImportError: matplotlib is not installed.
    """
    require_drawing()
    from .figure import draw

    with replace_files(folder) as staging:
        write_json(staging / "report.json", {"title": report.title} | asdict(report))
        draw(report).savefig(staging / "report.png", format="png")


def read_report(folder: str | os.PathLike) -> Report:
    """Read a report that `write_report` wrote.

    Raises:
        OSError: there is no report.
        ValueError: the report was written by another version.
    """
    found = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    try:
        rows = tuple(_read_row(row) for row in found["rows"])
        vectors = tuple(VectorRow(**row) for row in found["vectors"])
        histories = {name: tuple(found[name]) for name in ("losses", "dev")}
        return Report(
            **{each.name: found[each.name] for each in fields(Report)} | {"rows": rows, "vectors": vectors, **histories}
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}/report.json is of another version of retort: {error!r}.") from error


def _read_row(row: Mapping) -> ModelRow:
    parts = {
        "role": Role(row["role"]),
        "footprint": Footprint(**row["footprint"]),
        "speed": row["speed"] and Speed(**row["speed"]),
        "intervals": {name: tuple(ends) for name, ends in row["intervals"].items()},
    }
    return ModelRow(**{**row, **parts})
