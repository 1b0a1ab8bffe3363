"""A classifier that reads its teacher's width, and folds into one that reads the student's own.

A narrow student that learns its teacher's features through a linear projector can classify what the projector gives,
as XtremeDistil's students do: the classifier then works in the space in which the student was taught. Two linear maps
in a row are one, so the finished student is a stock model that has no projector.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .anatomy import classifier

PROJECTOR = "projector"


class ProjectedClassifier(nn.Sequential):
    """`hidden -> features -> classes`, without anything between the two linear maps.

    Args:
        hidden_size: width of what comes in.
        features: width of what the classifier reads; the teacher's.
        classes: width of the logits.
    """

    def __init__(self, hidden_size: int, features: int, classes: int):
        super().__init__()
        self.projector = nn.Linear(hidden_size, features)
        self.classifier = nn.Linear(features, classes)


def add_projector(student: PreTrainedModel, features: int) -> None:
    """Put a projector before a student's classifier, and a new classifier of `features` inputs behind it.

    Args:
        student: with a classification head; changed in place.
        features: width of what the teacher's classifier reads.
    """
    name, old = classifier(student)
    new = ProjectedClassifier(old.in_features, features, old.out_features)
    student.set_submodule(name, new.to(old.weight.device, old.weight.dtype))


def projected_classifier(model: PreTrainedModel) -> tuple[str, ProjectedClassifier] | None:
    """The projected classifier of a model and its dotted name, or None if its classifier is a stock one."""
    return next(((name, m) for name, m in model.named_modules() if isinstance(m, ProjectedClassifier)), None)


def fold_projector(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of the stock model that computes the same as one with a `ProjectedClassifier`.

    `W_c (W_p h + b_p) + b_c = (W_c W_p) h + (W_c b_p + b_c)`, multiplied in float64.

    Args:
        weights: of the model.
        name: the classifier's.
    """
    dtype = weights[f"{name}.classifier.weight"].dtype
    kept = {key: value for key, value in weights.items() if not key.startswith(f"{name}.")}
    inner, inner_bias = (weights[f"{name}.projector.{part}"].double() for part in ("weight", "bias"))
    outer, outer_bias = (weights[f"{name}.classifier.{part}"].double() for part in ("weight", "bias"))
    bias = outer @ inner_bias + outer_bias
    return kept | {f"{name}.weight": (outer @ inner).to(dtype), f"{name}.bias": bias.to(dtype)}


@contextmanager
def stock_classifier(model: PreTrainedModel) -> Iterator[None]:
    """Put a stock classifier, without values, in the place of a projected one, as in the model's exported folder."""
    found = projected_classifier(model)
    if found is None:
        yield
        return
    name, projected = found
    with torch.device(projected.projector.weight.device):
        stock = nn.Linear(projected.projector.in_features, projected.classifier.out_features)
    model.set_submodule(name, stock)
    try:
        yield
    finally:
        model.set_submodule(name, projected)
