"""Checks that the names of a dataset's classes are those of the student's, id by id."""

from typing import Any

from datasets import ClassLabel, LargeList, List
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)

# Names listed in a message: all tags of four types of spans, with O.
_MOST = 9


def check_class_names(feature: Any, student: PreTrainedModel) -> None:
    """Refuse labels whose ids mean other classes than the student's outputs.

    A name that has another id on the other side is refused. Names that only one side has, such as neg and NEGATIVE, may
    mean the same class, so they are a warning. Capitals don't matter: models often write ENTAILMENT where datasets
    write entailment. Nothing is compared if either side has no names.

    Args:
        feature: the type of the column of labels. Only `ClassLabel`, alone or in lists, has names.
        student: the model to be trained. Its names are in `config.id2label`.

    Raises:
        ValueError: a class has two ids.
    """
    in_lists = isinstance(feature, List | LargeList)
    labels = feature.feature if in_lists else feature
    if not isinstance(labels, ClassLabel) or student.get_output_embeddings() is not None:
        return
    theirs, ours = tuple(labels.names), _names_of(student.config)
    if _are_numbers(theirs) or _are_numbers(ours):
        return
    given, outputs = _comparable(theirs), _comparable(ours)
    moved = [index for index, name in enumerate(given) if name in outputs and outputs.index(name) != index]
    if not moved:
        _warn_of_other_names(theirs, ours)
        return
    wrong = min(moved[0], len(ours) - 1)
    same_classes = set(given) <= set(outputs)
    raise ValueError(
        "the labels' classes are in another order than the student's. "
        f"Class {wrong} is {theirs[wrong]!r} in the rows, but {ours[wrong]!r} in the student's config.id2label. "
        f"The rows have {_shortened(theirs)}. The student has {_shortened(ours)}. "
        + (_in_order(student.config, theirs, in_lists) if same_classes else _loaded_anew())
    )


def _warn_of_other_names(theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    pairs = enumerate(zip(_comparable(theirs), _comparable(ours), strict=False))
    others = [index for index, (name, output) in pairs if name != output]
    if others:
        logger.warning_once(
            f"The labels' classes have other names than the student's: class {others[0]} is {theirs[others[0]]!r} in "
            f"the rows, and {ours[others[0]]!r} in the student's config.id2label. They are taken for the same class."
        )


def _in_order(config: PreTrainedConfig, theirs: tuple[str, ...], in_lists: bool) -> str:
    """The way out if the classes are the same."""
    ours = _names_of(config)
    # A label2id that was forgotten when id2label was set would put the labels in its own order.
    agrees = config.label2id == {name: index for index, name in config.id2label.items()}
    mapping = "student.config.label2id" if agrees else "{name: id for id, name in student.config.id2label.items()}"
    # align_labels_with_mapping ends in a NameError for lists (datasets 5), and reads all names in lower case.
    if not in_lists and _comparable(ours) == tuple(map(str.casefold, ours)):
        return (
            f"Before you tokenize, call dataset.align_labels_with_mapping({mapping}, column), with the name of the "
            "column of labels."
        )
    lower = "" if set(theirs) <= set(ours) else ".lower()"
    mapping = "{name.lower(): id for id, name in student.config.id2label.items()}" if lower else mapping
    aligned = f"ids[labels.int2str(row[column]){lower}]"
    aligned = f"[ids[name{lower}] for name in labels.int2str(row[column])]" if in_lists else aligned
    return (
        f"Before you tokenize, call dataset.map(lambda row: {{'aligned': {aligned}}}), with ids={mapping}, "
        f"labels=dataset.features[column]{'.feature' if in_lists else ''} and the name of the column of labels. Then "
        "pass labels='aligned'."
    )


def _loaded_anew() -> str:
    """The way out if the student lacks some of the classes."""
    return (
        "Load the model with the classes of the rows: from_pretrained(..., id2label=dict(enumerate(names)), "
        "label2id={name: id for id, name in enumerate(names)}), with the names of the rows."
    )


def _names_of(config: PreTrainedConfig) -> tuple[str, ...]:
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label))


def _are_numbers(names: tuple[str, ...]) -> bool:
    """Whether classes have no names: transformers calls them LABEL_0, and datasets 0."""
    return all(name in (f"LABEL_{index}", str(index)) for index, name in enumerate(names))


def _comparable(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in lower case, unless two classes would be alike."""
    folded = tuple(map(str.casefold, names))
    return folded if len(set(folded)) == len(set(names)) else names


def _shortened(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:_MOST])}{', …' if len(names) > _MOST else ''} ({len(names)})"
