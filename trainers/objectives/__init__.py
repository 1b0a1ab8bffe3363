"""What a student is trained towards.

Each objective reads some outputs of both sides and gives one value per row or token. It has a name (its line in the
log), a weight, the outputs that it needs, perhaps heads, and a count: of how many values its loss is the mean. The
count is known from the batch alone, before any forward pass, because the mean is taken over a whole optimizer step.
"""

from .base import Objective
from .classes import FeatureObjective, LabelObjective, LogitsObjective
from .contrastive import (
    Candidates,
    ContrastiveObjective,
    GroupContrastObjective,
    InfoNCEObjective,
    TeacherContrastObjective,
)
from .embeddings import EmbeddingObjective, PooledObjective, SimilarityObjective
from .layers import AttentionObjective, HiddenStateObjective, MixedStateObjective, RelationObjective
from .token_contrast import TokenContrastObjective
from .translations import SimilarityAcrossObjective, SourceObjective, TargetObjective
from .vocabulary import MaskedLMObjective, VocabularyObjective

__all__ = [
    "AttentionObjective",
    "Candidates",
    "ContrastiveObjective",
    "EmbeddingObjective",
    "FeatureObjective",
    "GroupContrastObjective",
    "HiddenStateObjective",
    "InfoNCEObjective",
    "LabelObjective",
    "LogitsObjective",
    "MaskedLMObjective",
    "MixedStateObjective",
    "Objective",
    "PooledObjective",
    "RelationObjective",
    "SimilarityAcrossObjective",
    "SimilarityObjective",
    "SourceObjective",
    "TargetObjective",
    "TeacherContrastObjective",
    "TokenContrastObjective",
    "VocabularyObjective",
]
