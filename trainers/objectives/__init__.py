"""Objectives: the terms of the loss."""

from .base import MULTI_LABEL, SINGLE_LABEL, Objective, student_request, teacher_request
from .build import Dimensions, build_objectives, check_pairs, problem_of
from .classes import FeatureObjective, LabelObjective
from .contrastive import GroupContrastObjective, InfoNCEObjective, TeacherContrastObjective
from .embeddings import EmbeddingObjective, PooledObjective, SourceObjective, TargetObjective
from .layers import AttentionObjective, RelationObjective, layer_pairs
from .projector import Projector, least_squares, projector
from .scores import ListwiseObjective, MarginObjective, ScoreObjective
from .short_vectors import with_short_vectors
from .token_contrast import TokenContrastObjective
from .vocabulary import MaskedLMObjective, VocabularyObjective
from .whole_step import SimilarityAcrossObjective, SimilarityObjective, WholeStepObjective
