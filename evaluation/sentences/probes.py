"""What a linear classifier finds in frozen embeddings: SentEval's probes, by scikit-learn.

Conneau & Kiela 2018, https://aclanthology.org/L18-1269. The strength of regularisation is chosen without the test side:
by cross-validation on the training side, or on a development set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold

SEED = 1111
# C, the inverse of the regularisation's strength.
STRENGTHS = tuple(2.0**power for power in range(-2, 4))
STRENGTHS_WITH_TEST = tuple(2.0**power for power in range(-1, 6))


@dataclass(frozen=True)
class ProbeScores:
    """Accuracies in 0..1.

    Attributes:
        dev: at the strength that was chosen, on what it was chosen by.
        test: on what it was not chosen by.
        f1: of the positive class on the test side, where there are two classes and a test side.
    """

    dev: float
    test: float
    f1: float | None = None


def probe_by_folds(features: np.ndarray, labels: np.ndarray, *, folds: int = 10) -> ProbeScores:
    """Probe by nested cross-validation, where there is no test side (MR, CR, SUBJ, MPQA).

    Args:
        features: `[rows, features]`; rows in SentEval's order (see `LabelledTexts`) give its folds.
        labels: `[rows]`, classes.
        folds: outer and inner.

    Raises:
        ValueError: a class with fewer rows than folds.
    """
    from sklearn.model_selection import cross_validate

    cv = _folds(labels, folds)
    found = cross_validate(_search(STRENGTHS, cv), features, labels, cv=cv, return_estimator=True)
    dev = np.mean([chosen.best_score_ for chosen in found["estimator"]])
    return ProbeScores(float(dev), float(found["test_score"].mean()))


def probe(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    dev: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    folds: int = 10,
) -> ProbeScores:
    """Probe a task that has a test side.

    Args:
        train: `[rows, features]` and `[rows]`.
        test: likewise.
        dev: likewise; where there is one (SST2) it chooses the strength, and the classifier sees the training side
            alone. Otherwise (TREC, MRPC) cross-validation on the training side does.
        folds: of the cross-validation.

    Raises:
        ValueError: a class with fewer rows than folds.
    """
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.model_selection import PredefinedSplit

    features, labels = train
    if dev is None:
        chosen = _search(STRENGTHS_WITH_TEST, _folds(labels, folds)).fit(features, labels)
        dev_score, classifier = chosen.best_score_, chosen.best_estimator_
    else:
        both = np.concatenate([features, dev[0]]), np.concatenate([labels, dev[1]])
        side = np.repeat([-1, 0], [len(labels), len(dev[1])])  # -1: never held out
        chosen = _search(STRENGTHS, PredefinedSplit(side), refit=False).fit(*both)
        dev_score = chosen.best_score_
        classifier = chosen.estimator.set_params(**chosen.best_params_).fit(features, labels)
    found = classifier.predict(test[0])
    f1 = float(f1_score(test[1], found)) if set(np.unique(labels)) == {0, 1} else None
    return ProbeScores(float(dev_score), float(accuracy_score(test[1], found)), f1)


def pair_features(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What a probe of pairs reads, `[rows, 2 * dim]`: the distance and the product of two embeddings, by feature."""
    return np.concatenate([np.abs(first - second), first * second], axis=1)


def _search(strengths: tuple[float, ...], cv: StratifiedKFold | PredefinedSplit, refit: bool = True) -> GridSearchCV:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    classifier = LogisticRegression(max_iter=1000)
    return GridSearchCV(classifier, {"C": list(strengths)}, scoring="accuracy", cv=cv, refit=refit)


def _folds(labels: np.ndarray, folds: int) -> StratifiedKFold:
    from sklearn.model_selection import StratifiedKFold

    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < folds:
        raise ValueError(
            f"{folds} folds need two classes of {folds} rows at least, but the classes {classes.tolist()} have "
            f"{counts.tolist()}. Use fewer folds."
        )
    return StratifiedKFold(folds, shuffle=True, random_state=SEED)
