"""Evaluation of sentence embeddings by similarity, retrieval and probes."""

from .hyperbolicity import Hyperbolicity, sample_hyperbolicity
from .model import load_embedder, load_sentence_teacher, side_by_side
from .probes import ProbeScores, pair_features, probe, probe_by_folds
from .retrieval import bitext_hits, distinct, own_document_ranks, retrieval_scores, scores_of_ranks
from .short_vectors import ShortEncoder, short_vectors
from .similarity import bootstrapped_agreement, rank_correlation, similarity_agreement
from .sts import StsScores, score_sts, sts_of_each, sts_pairs, sts_scores, sts_spearman
