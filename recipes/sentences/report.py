"""Sentence encoders side by side in a report."""

from collections.abc import Callable, Sequence

from ...evaluation.report import ModelRow, Report, Role, build_report
from ...evaluation.sentences import SentenceModel, similarity_agreement


def side_by_side(
    models: dict[str, tuple[Role, SentenceModel]],
    quality: Callable[[SentenceModel], dict[str, float]],
    texts: Sequence[str],
    log_history: list[dict],
    measured: str,
) -> Report:
    """Judge teacher, untrained and trained student in one run.

    Args:
        models: name -> role and model; the teacher first.
        quality: names scores of a model; the first is the report's.
        texts: unseen texts, for speed and for how far similarities agree with the teacher's.
        log_history: of the trainer.
        measured: what the scores were measured on.
    """
    scores = {}
    for name, (_, model) in models.items():
        scores[name] = quality(model)
        metric, value = next(iter(scores[name].items()))
        print(f"{name}: {metric} {value:.3f}", flush=True)
    embeddings = {name: model.embed(texts[:1000]) for name, (_, model) in models.items()}
    teacher = next(iter(embeddings.values()))
    for name, own in embeddings.items():
        scores[name]["agreement with the teacher"] = similarity_agreement(teacher, own)
    return build_report(
        [ModelRow.of(name, role, model.model, scores[name]) for name, (role, model) in models.items()],
        {name: model.embed for name, (_, model) in models.items()},
        texts,
        log_history,
        measured=measured,
    )
