"""Objectives on the shorter and quantised forms of a student's embeddings."""

import copy
from collections.abc import Sequence

from ..arguments import DistillTrainingArguments
from .base import Objective
from .contrastive import TeacherContrastObjective
from .embeddings import EmbeddingObjective, MemberObjective, PooledObjective
from .whole_step import SimilarityAcrossObjective, SimilarityObjective


def with_short_vectors(objectives: Sequence[Objective], args: DistillTrainingArguments, size: int) -> list[Objective]:
    """The objectives, and those on the leading dimensions and quantised values of the student's embeddings.

    Matryoshka representation learning (Kusupati et al. 2022, arXiv:2205.13147): the loss at each of `truncate_dims` is
    added. With `quantization_aware`, it is also added for the quantised values of the whole embedding and of each of
    its parts. The losses on these short vectors share the weight of the objective in equal parts, so that whole vectors
    remain as good as without them (`benchmarks/short_vectors.py`).

    A teacher's leading dimensions mean nothing to a student, and neither do signs of its values. So in place of a
    distance or a contrast to the teacher's embeddings, the cosines of the student's short vectors are compared with the
    cosines of the teacher's whole embeddings (`SimilarityObjective`), and those of binary vectors with the smaller
    cosines that signs have (`cosines_of_signs`).

    Args:
        objectives: those on whole embeddings; others are left as they are.
        args: arguments with `truncate_dims` and `quantization_aware`.
        size: the width of the student's embeddings.

    Raises:
        ValueError: `truncate_dims` has a number above `size`, or only `size`; or no objective is on embeddings.
    """
    dims, precision = args.truncate_dims or [], args.quantization_aware
    if not dims and precision is None:
        return list(objectives)
    if dims and dims[0] > size:
        raise ValueError(
            f"truncate_dims={dims}, but the student's embeddings have {size} dimensions. Leave out those above {size}."
        )
    if dims == [size] and precision is None:
        raise ValueError(
            f"truncate_dims={dims} is the whole width of the student's embeddings. Name smaller numbers of dimensions, "
            "or leave it out."
        )
    short = [_on_short_vectors(objective) for objective in objectives if isinstance(objective, PooledObjective)]
    if not short:
        raise ValueError(
            f"{'truncate_dims' if dims else 'quantization_aware'} is for embeddings, but no objective compares any. "
            "Leave it out, or, for a sentence encoder, set embedding_weight or similarity_weight."
        )
    forms = [(each, None) for each in dims if each < size]
    forms += [(each, precision) for each in dict.fromkeys([size, *dims])] if precision else []
    made = [objective.short(*form) for objective in _merged(short) for form in forms]
    for objective in made:
        objective.weight /= len(forms)
    return [*objectives, *made]


def _on_short_vectors(objective: PooledObjective) -> PooledObjective:
    """The objective on short vectors that corresponds to one on whole embeddings."""
    settings = objective.weight, objective.pooler, objective.teacher_pooler
    if isinstance(objective, MemberObjective):
        return SimilarityAcrossObjective(*settings)
    if isinstance(objective, EmbeddingObjective | TeacherContrastObjective):
        return SimilarityObjective(*settings)
    return objective


def _merged(objectives: Sequence[PooledObjective]) -> list[PooledObjective]:
    """The objectives, with those of the same name as one with the sum of their weights."""
    merged: dict[str, PooledObjective] = {}
    for objective in objectives:
        if objective.name in merged:
            merged[objective.name].weight += objective.weight
        else:
            merged[objective.name] = copy.copy(objective)
    return list(merged.values())
