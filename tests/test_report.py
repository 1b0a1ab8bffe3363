"""The report: the title's arithmetic, the tables, the files, and that the picture covers none of its own words."""

import json
import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from retort.evaluation import (
    Footprint,
    ModelRow,
    Report,
    Role,
    Speed,
    dev_history,
    loss_history,
    markdown_table,
    read_report,
    text_table,
    write_report,
)
from retort.evaluation.report.curves import Curve
from retort.evaluation.report.figure import draw
from retort.evaluation.report.label_placement import Label, spread, write_labels
from retort.evaluation.report.report import VectorRow, percent

TEACHER = ModelRow(
    "all-MiniLM-L6-v2",
    Role.TEACHER,
    {"MRR@10": 0.5, "recall@1": 0.4},
    Footprint(22_713_216, 10_795_776, 90.85),
    Speed(222.2, 9.1, 1.0, 1.0),
    layers=6,
)
SMALL, FAST = Footprint(17_389_824, 5_472_384, 69.6), Speed(1417.4, 5.0, 1.88, 1.82)
UNTRAINED = ModelRow("untrained", Role.UNTRAINED, {"MRR@10": 0.4, "recall@1": 0.3}, SMALL, FAST, layers=3)
STUDENT = ModelRow("student", Role.STUDENT, {"MRR@10": 0.49, "agreement": 0.95}, SMALL, FAST, layers=3)
INT8 = Footprint(SMALL.parameters, SMALL.parameters_without_embeddings, 17.6)
EXPORTED = ModelRow(
    "student, ONNX int8", Role.EXPORTED, {"MRR@10": 0.485}, INT8, Speed(2500.0, 2.0, 3.3, 4.5), layers=3
)
LOG = [
    {"loss": 0.5, "loss_embedding": 0.004, "loss_hidden_states": 0.2, "grad_norm": 1.0, "step": 10, "epoch": 0.5},
    {"eval_loss": 0.3, "eval_loss_embedding": 0.01, "step": 10, "epoch": 0.5},
    {"loss": 0.3, "loss_embedding": 0.002, "loss_hidden_states": 0.1, "learning_rate": 1e-4, "step": 20, "epoch": 1.0},
    {"loss": 0.2, "loss_embedding": 0.001, "loss_hidden_states": math.nan, "step": 30, "epoch": 1.5},
    {"train_loss": 0.33, "train_runtime": 9.0, "step": 30, "epoch": 1.5},
]


def report(*rows, losses=(), measured="On 250 queries."):
    return Report(rows or (TEACHER, UNTRAINED, STUDENT), "MRR@10", losses, measured)


def quality(row, value, **changes):
    values = {name: getattr(row, name) for name in ("name", "role", "footprint", "speed", "layers")}
    return ModelRow(quality={"MRR@10": value}, **values | changes)


def test_the_title_is_the_result_in_words():
    assert report().title == "3 of 6 layers: 98 % of the teacher's MRR@10 at 1.9x its speed"


def test_the_title_names_the_share_of_parameters_where_layers_do_not_tell():
    wide = quality(STUDENT, 0.49, layers=6)
    assert report(TEACHER, wide).title == "77 % of the parameters: 98 % of the teacher's MRR@10 at 1.9x its speed"


def test_the_title_leaves_out_what_was_not_measured():
    assert report(TEACHER, quality(STUDENT, 0.49, speed=None)).title == "3 of 6 layers: 98 % of the teacher's MRR@10"
    assert report(STUDENT).title == "student: MRR@10 0.490, 17.4 M parameters"
    assert report(TEACHER).title == "all-MiniLM-L6-v2: MRR@10 0.500, 22.7 M parameters"


def test_a_share_of_a_negative_score_is_never_printed():
    odd = report(quality(TEACHER, -0.02), STUDENT)
    assert odd.title == "3 of 6 layers: MRR@10 0.490 (teacher -0.020) at 1.9x its speed"
    assert "% of teacher" not in text_table(odd)
    assert (
        report(quality(TEACHER, -40.0), STUDENT).title == "3 of 6 layers: MRR@10 0.5 (teacher -40.0) at 1.9x its speed"
    )


def test_the_title_is_about_the_last_student():
    better = quality(STUDENT, 0.495, name="second stage")
    assert "99 %" in report(TEACHER, STUDENT, better, UNTRAINED).title


def test_the_title_is_about_the_student_and_not_about_what_it_was_exported_to():
    assert report(TEACHER, STUDENT, EXPORTED).title == report(TEACHER, STUDENT).title


@pytest.mark.parametrize(
    ("share", "words"), [(0.984, "98 %"), (0.996, "99.6 %"), (0.9996, "100 %"), (1.0, "100 %"), (1.021, "102 %")]
)
def test_what_falls_short_of_the_teacher_is_not_rounded_up_to_it(share, words):
    assert percent(share) == words


def test_losses_come_from_the_log_of_a_trainer():
    first, second, third = loss_history(LOG)
    assert first == {"loss": 0.5, "loss_embedding": 0.004, "loss_hidden_states": 0.2, "step": 10, "epoch": 0.5}
    assert second["step"] == 20
    assert "learning_rate" not in second
    assert third["loss_hidden_states"] is None


DEV_LOG = [
    {"eval_loss": 0.3, "eval_loss_embedding": 0.2, "eval_runtime": 3.0, "eval_steps_per_second": 9.0, "step": 10},
    {"eval_score": 0.7, "step": 10},
    {"loss": 0.2, "step": 15},
    {"eval_loss": math.nan, "eval_score": 0.8, "step": 20},
]


def test_development_curves_come_from_the_log_of_a_trainer():
    assert dev_history(DEV_LOG) == ({"step": 10, "loss": 0.3, "score": 0.7}, {"step": 20, "score": 0.8})
    assert dev_history(DEV_LOG, {"score": "F1"})[1] == {"step": 20, "F1": 0.8}
    assert dev_history(LOG[:1]) == ()


def test_what_a_trainer_measures_of_itself_is_no_score_and_a_set_that_ends_in_loss_is_a_set():
    names = "model_preparation_time jit_compilation_time runtime samples_per_second mem_cpu_alloc_delta loss_embedding"
    itself = {f"eval_{at}{name}": 1.0 for name in names.split() for at in ("", "gloss_")}
    scores = {"gloss_f1": 0.5, "gloss_loss": 0.3, "loss": 0.2, "uptime": 0.1}
    assert dev_history([itself | {f"eval_{name}": value for name, value in scores.items()} | {"step": 4}]) == (
        {"step": 4, **scores},
    )


def with_intervals():
    """Three models with intervals, and curves of training and development."""
    rows = [
        replace(row, intervals={metric: (value - 0.03, value + 0.02) for metric, value in row.quality.items()})
        for row in (TEACHER, UNTRAINED, STUDENT)
    ]
    test_set, dev = "485 docstrings of unseen modules", dev_history(DEV_LOG, {"score": "F1"})
    return Report(tuple(rows), "MRR@10", loss_history(LOG), "On 250 queries.", test_set, dev, "of all that")


def test_intervals_stand_below_their_metrics():
    lines = text_table(with_intervals()).splitlines()
    metric = next(at for at, line in enumerate(lines) if line.startswith("MRR@10  "))
    assert lines[metric + 1].split("  ")[0] == "MRR@10, 95 %"
    assert "[0.460, 0.510]" in lines[metric + 1]
    assert "[0.270, 0.320]" in "".join(lines)
    assert sum("95 %" in line for line in lines) == 3
    many = replace(with_intervals(), rows=(*with_intervals().rows, STUDENT, STUDENT))
    assert "[0.460, 0.510]" in text_table(many)
    assert "[0.270, 0.320]" not in text_table(many)  # of recall@1, for which there is no room


def test_all_values_of_a_metric_have_the_same_decimals():
    values = {"bits": (1.02, 4.0, 1.04), "percent": (84.25, 0.5, 80.0), "cosine": (1.0000001, 0.9, 0.95)}
    for metric, of_each in values.items():
        rows = [quality(row, value) for row, value in zip((TEACHER, UNTRAINED, STUDENT), of_each, strict=True)]
        rows[2] = replace(rows[2], intervals={"MRR@10": (rows[2].quality["MRR@10"] - 0.25, rows[2].quality["MRR@10"])})
        compared = report(*rows)
        shown = {line[0]: line[1:] for line in (re.split("  +", line) for line in text_table(compared).splitlines())}
        assert (shown["MRR@10"], shown["MRR@10, 95 %"]) == {
            "bits": (["1.020", "4.000", "1.040"], ["-", "-", "[0.790, 1.040]"]),
            "percent": (["84.2", "0.5", "80.0"], ["-", "-", "[79.8, 80.0]"]),
            "cosine": (["1.000", "0.900", "0.950"], ["-", "-", "[0.700, 0.950]"]),
        }[metric]
        named = [text.partition(" ")[0] for text, _ in words(draw(compared)) if text.startswith("untrained\n")]
        assert set(named) == {f"untrained\n{shown['MRR@10'][1]}"}


def test_vectors_are_written_on_the_scale_of_the_models():
    vectors = tuple(VectorRow.of(dims, "float32", {"MRR@10": value}) for dims, value in ((384, 41.0), (4, 0.75)))
    compared = replace(report(quality(TEACHER, 45.0), quality(STUDENT, 41.0)), vectors=vectors)
    assert [line.split()[-1] for line in text_table(compared).splitlines()[-4:-2]] == ["41.0", "0.8"]


def test_a_report_is_read_as_it_was_written(tmp_path):
    write_report(with_intervals(), tmp_path)
    assert read_report(tmp_path) == with_intervals()
    write_report(report(quality(STUDENT, 0.4, speed=None)), tmp_path)
    assert read_report(tmp_path) == report(quality(STUDENT, 0.4, speed=None))
    (tmp_path / "report.json").write_text('{"rows": [{"name": "old"}]}')
    with pytest.raises(ValueError, match="of another version of retort"):
        read_report(tmp_path)


def test_the_picture_names_metric_and_set_and_draws_development_curves():
    figure = draw(with_intervals())
    said = [text for text, _ in words(figure)]
    assert "↑  MRR@10 on 485 docstrings of unseen modules; lines: 95 % intervals" in said
    assert "loss in training; on the development set, dashed" in said
    assert "↑  F1 on the development set" in said
    assert {"dev loss  0.3", "F1  0.8"} <= set(said)
    quality_axes, *_, losses, dev = figure.axes
    segments = [path.vertices[:, 1].tolist() for lines in quality_axes.collections for path in lines.get_paths()]
    assert [0.46, 0.51] in [[round(end, 3) for end in ends] for ends in segments]
    assert dev.get_lines()[0].get_ydata().tolist() == [0.7, 0.8]
    assert [line.get_xdata() for line in losses.get_lines() if line.get_linestyle() == "--"]


def test_the_terminal_table_is_aligned_and_complete():
    expected = """
        3 of 6 layers: 98 % of the teacher's MRR@10 at 1.9x its speed

                                 all-MiniLM-L6-v2   untrained   student
        ---------------------------------------------------------------
        layers                                  6           3         3
        MRR@10                              0.500       0.400     0.490
        MRR@10, % of teacher                100.0        80.0      98.0
        recall@1                            0.400       0.300         -
        agreement                               -           -     0.950
        parameters                         22.7 M      17.4 M    17.4 M
        outside embeddings                 10.8 M       5.5 M     5.5 M
        fewer parameters                     1.0x        1.3x      1.3x
        megabytes                            90.8        69.6      69.6
        sentences/s                           222       1,417     1,417
        speed-up                            1.00x       1.88x     1.88x
        ms for one sentence                   9.1         5.0       5.0
        speed-up, one sentence              1.00x       1.82x     1.82x

        On 250 queries."""
    assert text_table(report()).splitlines() == [line[8:] for line in expected.splitlines()[1:]]


def many_models():
    """A teacher, three students, and two files of each."""
    rows = [TEACHER]
    for depth, speed in ((1, 3000.0), (2, 2000.0), (3, 1417.0)):
        for back_end, role, size, gain in (
            ("", Role.STUDENT, SMALL, 1.0),
            (", ONNX", Role.EXPORTED, SMALL, 1.3),
            (", ONNX int8", Role.EXPORTED, INT8, 2.5),
        ):
            fast = Speed(speed * gain, 5 / gain, speed * gain / 222, 1.8 * gain)
            value = 0.4 + 0.03 * depth - 0.002 * gain
            rows.append(ModelRow(f"{depth} layers{back_end}", role, {"MRR@10": value}, size, fast, layers=depth))
    return tuple(rows)


def test_the_table_of_many_models_has_a_line_for_each():
    rows = many_models()
    title, blank, *lines = text_table(report(*rows)).splitlines()
    head, body = lines[:2], lines[3:13]
    assert (title, blank) == (report(*rows).title, "")
    assert head[0].split() == "% of outside fewer speed ms for speed".split()
    assert head[1].split() == "layers MRR@10 teacher recall@1 params embed. params MB sent./s up one up, one".split()
    assert set(lines[2]) == {"-"}
    assert body[0].split() == "all-MiniLM-L6-v2 6 0.500 100.0 0.400 22.7 M 10.8 M 1.0x 90.8 222 1.00x 9.1 1.00x".split()
    int8 = "3 layers, ONNX int8 3 0.485 97.0 - 17.4 M 5.5 M 1.3x 17.6 3,542 15.96x 2.0 4.50x"
    assert body[-1].split() == int8.split()
    assert len(set(map(len, [*head, lines[2], *body]))) == 1
    assert max(map(len, lines)) <= 120


def test_the_markdown_table_of_many_models_has_a_line_for_each():
    head, alignment, *body = markdown_table(report(*many_models())).splitlines()
    assert head.startswith("|  | layers | MRR@10 | MRR@10, % of teacher | recall@1 | parameters | outside embeddings |")
    assert alignment.count("---:") == head.count("|") - 2
    assert body[-1].startswith("| 3 layers, ONNX int8 | 3 | 0.485 | 97.0 | - | 17.4 M | 5.5 M | 1.3x | 17.6 |")
    assert len(body) == 10


def test_without_a_teacher_nothing_is_said_of_compression():
    assert "fewer parameters" not in text_table(report(STUDENT))


def test_lines_that_no_model_has_are_left_out():
    table = text_table(report(quality(STUDENT, 0.49, speed=None, layers=None), measured=""))
    assert [line.split("  ")[0] for line in table.splitlines()[4:]] == [
        "MRR@10",
        "parameters",
        "outside embeddings",
        "megabytes",
    ]


def test_the_markdown_table_holds_the_same_cells_and_escapes_pipes():
    lines = markdown_table(report(TEACHER, quality(STUDENT, 0.49, name="a|b"))).splitlines()
    assert lines[:4] == [
        "|  | all-MiniLM-L6-v2 | a\\|b |",
        "| :--- | ---: | ---: |",
        "| layers | 6 | 3 |",
        "| MRR@10 | 0.500 | 0.490 |",
    ]


@pytest.mark.promise(9)
def test_a_metric_that_is_not_a_number_or_was_not_measured_is_an_error():
    with pytest.raises(ValueError, match=r"'student' cannot be made of \{'MRR@10': nan\}"):
        quality(STUDENT, math.nan)
    with pytest.raises(ValueError, match="about 'recall@1', which was not measured for student"):
        Report((TEACHER, STUDENT), "recall@1")
    with pytest.raises(ValueError, match="at least one model"):
        Report((), "MRR@10")


def test_the_files_hold_all_numbers_and_a_picture_of_1800_pixels(tmp_path):
    write_report(report(losses=loss_history(LOG)), tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["report.json", "report.png"]
    content = json.loads((tmp_path / "new" / "report.json").read_text(), parse_constant=pytest.fail)
    assert content["title"] == report().title
    assert content["rows"][0]["quality"] == {"MRR@10": 0.5, "recall@1": 0.4}
    assert content["rows"][2]["speed"]["speedup"] == 1.88
    assert content["rows"][2]["role"] == "student"
    assert content["losses"][2] == {"loss": 0.2, "loss_embedding": 0.001, "loss_hidden_states": None} | {
        "step": 30,
        "epoch": 1.5,
    }
    with Image.open(tmp_path / "new" / "report.png") as image:
        assert image.width == 1800
        assert np.asarray(image.convert("L")).std() > 10


def test_a_failure_while_writing_leaves_the_old_report_and_nothing_else(tmp_path, monkeypatch):
    write_report(report(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fill_the_disk(figure, path, **kwargs):
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(report(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def words(figure):
    """Boxes in pixels of everything written in a picture, by what it says."""
    figure.canvas.draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes._left_title, axes.xaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [(text.get_text(), extent(text)) for text in texts if text.get_text() and text.get_visible()]


def extent(text):
    """The box of the words alone; that of an annotation takes in its line, but has to be asked first."""
    text.get_window_extent()
    return Text.get_window_extent(text)


def assert_legible(figure):
    boxes = words(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), (text, other)


CASES = {
    "usual": report(losses=loss_history(LOG)),
    "one model": report(STUDENT),
    "no loss": report(),
    "no speed": report(*(quality(row, 0.4, speed=None) for row in (TEACHER, UNTRAINED, STUDENT))),
    "students at one point": report(*(quality(STUDENT, 0.45, name=f"student number {i}") for i in range(5)), TEACHER),
    "nothing learned": report(TEACHER, quality(UNTRAINED, 0.4), quality(STUDENT, 0.4)),
    "one step": report(losses=loss_history(LOG[:1])),
    "never finite": report(losses=loss_history([{"loss": math.nan, "step": 1}])),
    "negative loss": report(losses=loss_history([{"loss": v, "step": s} for s, v in enumerate((1.0, 0.0, -1.0))])),
    "evaluations alone": replace(report(), dev=({"step": 0, "loss": 0.3, "F1": 0.7}, {"step": 5, "F1": 0.8})),
    "one evaluation, before the first step": replace(report(), dev=({"step": 0, "loss": 0.3, "F1": 0.7},)),
    "a loss before the first step": report(losses=loss_history([{"loss": 1.0, "step": 0}])),
    "many objectives": report(
        losses=loss_history(
            {"loss": 4.0, "step": s, "epoch": s / 2} | {f"loss_part_{i}": 1 + 0.01 * i / s for i in range(5)}
            for s in (1, 2, 3, 4)
        )
    ),
    "long title": report(TEACHER, quality(STUDENT, 0.49, layers=None), measured="Measured on many things. " * 12),
    "many models": report(*many_models(), losses=loss_history(LOG)),
    "many models of one speed and size": report(TEACHER, *(quality(STUDENT, 0.4 + i / 100) for i in range(9))),
    "many long names": report(
        *(quality(STUDENT, 0.3 + i / 30, name=f"{i} layers of 264, in three stages, unfrozen") for i in range(7))
    ),
    "intervals and development curves": with_intervals(),
    "many development scores": replace(with_intervals(), dev=({"step": 30, **{f"score_{i}": 0.7 for i in range(5)}},)),
    "dollar signs": report(TEACHER, quality(STUDENT, 0.49, name="$x^2$")),
}


@pytest.mark.parametrize("case", CASES)
def test_no_words_of_the_picture_overlap_or_leave_the_page(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_legible(draw(CASES[case]))


def test_every_model_and_every_objective_is_named_in_the_picture():
    said = " ".join(text for text, _ in words(draw(CASES["usual"])))
    for wanted in ("all-MiniLM-L6-v2\n0.500", "untrained\n0.400 (80 %)", "student\n0.490 (98 %)"):
        assert said.count(wanted) == 2
    assert "embedding  0.001" in said
    assert "hidden states  0.1" in said
    assert "weighted sum  0.2" in said
    assert "vertical lines end an epoch" in said


def test_many_models_are_numbered_at_their_points_and_named_below():
    figure = draw(report(*many_models()))
    left, right = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    # Of one size and nearly one quality, as a student and its float32 file are: one point to the eye.
    assert left == ["1", "2, 3", "4", "5, 6", "7", "8, 9", "10"]
    assert right == [str(number) for number in range(1, 11)]
    key = [text.get_text() for text in figure.texts]
    assert key[2:4] == ["1", "all-MiniLM-L6-v2  0.500"]
    assert key[-2:] == ["10", "3 layers, ONNX int8  0.485 (97 %)"]


def test_one_objective_is_one_line_without_a_sum():
    log = [{"loss": 0.5 / s, "loss_embedding": 0.5 / s, "step": s} for s in (1, 2, 3)]
    losses = draw(report(losses=loss_history(log))).axes[-1]
    assert [list(line.get_ydata()) for line in losses.lines] == [[0.5, 0.25, 0.5 / 3]]
    assert losses.get_yscale() == "log"


def test_evaluations_are_drawn_without_losses_of_training():
    *_, losses, dev = draw(CASES["evaluations alone"]).axes
    assert [axes.get_title(loc="left") for axes in (losses, dev)] == [
        "loss on the development set",
        "↑  F1 on the development set",
    ]
    assert [axes.lines[0].get_xydata().tolist() for axes in (losses, dev)] == [[[0, 0.3]], [[0, 0.7], [5, 0.8]]]
    assert [axes.get_xlim() for axes in (losses, dev)] == [(0, 1), (0, 5)]
    assert len(draw(replace(report(), dev=({"step": 1, "F1": 0.7},))).axes) == 3


def test_only_training_curves_have_gaps():
    history = {"step": 1, "loss": 0.5}, {"step": 2}, {"step": 3, "loss": None}
    training, dev = (Curve.of("loss", "loss", history, "black", on_dev=on_dev) for on_dev in (False, True))
    np.testing.assert_array_equal(training.values, [0.5, math.nan, math.nan])
    assert (training.on_dev, dev.on_dev, dev.steps) == (False, True, [1, 3])


def test_the_picture_does_not_depend_on_the_users_matplotlib_settings():
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert_legible(draw(CASES["usual"]))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.2, 0.8)), min_size=1, max_size=5))
def test_labels_of_a_few_points_anywhere_never_overlap(points):
    axes = Figure(figsize=(6, 4), dpi=100).add_axes((0, 0, 1, 1))
    write_labels(axes, [Label(x, y, f"model {i}\n0.123", "black") for i, (x, y) in enumerate(points)])
    boxes = [extent(text) for text in axes.texts]
    assert len(boxes) == len(points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@given(st.lists(st.floats(-100, 100), max_size=8), st.floats(0.1, 50))
def test_spread_keeps_the_order_the_mean_and_the_gap(positions, gap):
    moved = spread(positions, gap)
    assert len(moved) == len(positions)
    if positions:
        ordered = moved[np.argsort(positions, kind="stable")]
        assert np.all(np.diff(ordered) >= gap - 1e-9)
        assert moved.mean() == pytest.approx(np.mean(positions), abs=1e-6)


def test_spread_leaves_alone_what_is_far_enough_apart():
    assert spread([5.0, 1.0, 3.0], 2.0).tolist() == [5.0, 1.0, 3.0]
