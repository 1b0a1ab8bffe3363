"""What a student is trained towards."""

from .base import Objective
from .classes import LabelObjective
from .contrastive import (
    Candidates,
    ContrastiveObjective,
    GroupContrastObjective,
    InfoNCEObjective,
    SimilarityAcrossObjective,
    TeacherContrastObjective,
)
from .embeddings import PooledObjective, SourceObjective, TargetObjective
from .layer_maps import layer_pairs
from .layers import AttentionObjective, RelationObjective
from .plan import Dimensions, build_objectives, check_pairs, check_widths
from .token_contrast import TokenContrastObjective
from .vocabulary import MaskedLMObjective, VocabularyObjective
