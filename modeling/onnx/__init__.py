"""Exports, checks, quantises and runs ONNX files. Needs the extra `onnx`."""

from .embedding import EmbeddingGraph, embedding_inputs
from .export import FLOAT32_FILE, INT8_FILE, export_embeddings, export_onnx, onnx_agreement, quantize_int8
from .mark import is_marked
from .session import OnnxModel, onnx_library, open_session, run_session
