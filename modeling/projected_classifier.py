"""A projector and a classifier of the teacher's width, which fold into one linear classifier.

A narrow student that learns its teacher's features through a linear projector can classify the projector's output, as
XtremeDistil's students do. The classifier then works in the space in which the student was trained. Two consecutive
linear maps equal one linear map, so the finished student is a stock model without a projector.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .anatomy import classifier

PROJECTOR = "projector"


class ProjectedClassifier(nn.Sequential):
    """`hidden_size -> features -> classes`, without anything between the two linear maps.

    `features` is the width of the teacher's classifier.
    """

    def __init__(self, hidden_size: int, features: int, classes: int):
        super().__init__()
        self.projector = nn.Linear(hidden_size, features)
        self.classifier = nn.Linear(features, classes)


def add_projector(student: PreTrainedModel, features: int) -> None:
    """Replace a student's classifier by a projector and a new classifier with `features` inputs.

    Args:
        student: a model with a classification head; changed in place.
        features: input width of the teacher's classifier.
    """
    name, old = classifier(student)
    new = ProjectedClassifier(old.in_features, features, old.out_features)
    student.set_submodule(name, new.to(old.weight.device, old.weight.dtype))


def projected_classifier(model: PreTrainedModel) -> tuple[str, ProjectedClassifier] | None:
    """Dotted name and module of a model's projected classifier; None if its classifier is a stock one."""
    return next(((name, m) for name, m in model.named_modules() if isinstance(m, ProjectedClassifier)), None)


def fold_projector(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights of the stock model that computes the same outputs as a model with a `ProjectedClassifier`.

    `W_c (W_p h + b_p) + b_c = (W_c W_p) h + (W_c b_p + b_c)`, multiplied in float64.

    Args:
        weights: `state_dict` of the model.
        name: dotted name of the classifier.
    """
    dtype = weights[f"{name}.classifier.weight"].dtype
    kept = {key: value for key, value in weights.items() if not key.startswith(f"{name}.")}
    inner, inner_bias = (weights[f"{name}.projector.{part}"].double() for part in ("weight", "bias"))
    outer, outer_bias = (weights[f"{name}.classifier.{part}"].double() for part in ("weight", "bias"))
    bias = outer @ inner_bias + outer_bias
    return kept | {f"{name}.weight": (outer @ inner).to(dtype), f"{name}.bias": bias.to(dtype)}


@contextmanager
def stock_classifier(model: PreTrainedModel) -> Iterator[None]:
    """Replace a projected classifier by an uninitialised stock one, as in the exported folder, and restore it."""
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
