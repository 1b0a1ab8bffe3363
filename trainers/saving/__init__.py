"""Checkpoints, exports and model cards."""

from .checkpoints import (
    MANIFEST_FILE,
    check_checkpoint,
    checkpoint_in_progress,
    last_complete_checkpoint,
    remove_checkpoints,
    remove_incomplete_checkpoints,
    rotate_checkpoints,
    was_stopped_early,
)
from .cross_encoder import keep_activation
from .deepspeed import weights_alone
from .manifest import DamagedFilesError, check_files, describe_files, read_sealed, write_sealed
from .model_card import (
    CardFacts,
    Size,
    describe_run,
    describe_stages,
    is_hub_id,
    pushed_card,
    render_card,
    without_path,
    write_card,
)
from .onnx import has_own_onnx, others_onnx, save_embeddings_onnx, save_onnx
from .ownership import check_own_folder, is_own_card, may_write_card
from .router import save_router
from .sentence_transformer import save_sentence_transformer
from .settings import SETTINGS_FILE, check_settings, settings_of, write_settings
