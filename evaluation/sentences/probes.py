"""SentEval's probes, linear classifiers on frozen embeddings, by scikit-learn.

Conneau & Kiela 2018, https://aclanthology.org/L18-1269. The regularisation strength is chosen without the test set: by
cross-validation on the training set, or on a development set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold

SEED = 1111
# Values of C, the inverse regularisation strength.
STRENGTHS = tuple(2.0**power for power in range(-2, 4))
STRENGTHS_WITH_TEST = tuple(2.0**power for power in range(-1, 6))


@dataclass(frozen=True)
class ProbeScores:
    """Accuracies in 0..1.

    Attributes:
        dev: accuracy on the data by which the regularisation strength was chosen.
        test: accuracy on the test data.
        f1: F1 of the positive class on the test set, if there is a test set and there are two classes.
    """

    dev: float
    test: float
    f1: float | None = None


def probe_by_folds(features: np.ndarray, labels: np.ndarray, *, folds: int = 10) -> ProbeScores:
    """Probe by nested cross-validation, for tasks without a test set (MR, CR, SUBJ, MPQA).

    Args:
        features: `[rows, features]`. Rows in SentEval's order (see `LabelledTexts`) give SentEval's folds.
        labels: `[rows]`, classes.
        folds: number of outer and of inner folds.

    Raises:
        ValueError: a class has fewer rows than there are folds.
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
    """Probe a task that has a test set.

    Args:
        train: features `[rows, features]` and labels `[rows]`.
        test: features and labels, as `train`.
        dev: features and labels, as `train`. If given (SST2), it is used to choose the regularisation strength, but not
            to train. Otherwise (TREC, MRPC) the strength is chosen by cross-validation on the training set.
        folds: number of cross-validation folds.

    Raises:
        ValueError: a class has fewer rows than there are folds.
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
    """Features of pairs for a probe, `[rows, 2 * dim]`: elementwise absolute difference and product."""
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
            f"{folds} folds need at least two classes with at least {folds} rows each, but the classes "
            f"{classes.tolist()} have {counts.tolist()} rows. Use fewer folds."
        )
    return StratifiedKFold(folds, shuffle=True, random_state=SEED)
