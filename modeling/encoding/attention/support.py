"""Checks which models support packed batches, and enables them; refuses models that don't support padded ones."""

import inspect
import math

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ...anatomy import is_row_wise
from ...modes import evaluating, gathered, is_sharded
from ..layout import TokenLayout
from .interface import PACKED, attending
from .packing import Packing, UnreadyModelError
from .probing import says_causal

logger = logging.get_logger(__name__)


def enable_packing(model: PreTrainedModel) -> None:
    """Let `model` take packed batches: `model(ids, attention_mask=Packing.from_layout(layout), position_ids=...)`.

    `encode` needs no such call. Padded batches keep working and use `sdpa`. The setting isn't saved with the model.

    The outputs for a packed batch are packed as well: `last_hidden_state` and the logits of token and masked-LM heads
    are `[1, tokens, ...]` (see `TokenLayout.flatten`). Modules that read the first token of a row (BERT's pooler,
    sequence classification heads) see a single row and return the output of the first one. Apply such a head to
    `layout.first(layout.flatten(hidden))` instead.

    Raises:
        ValueError: the architecture doesn't support packed batches (see `supports_packing`).
    """
    if not supports_packing(model):
        raise ValueError(
            f"{type(model).__name__} ({model.config.model_type}) can't take packed batches: its attention can't be "
            "swapped, or its outputs differ between a packed and a padded batch. Use padded batches (packed=False)."
        )
    model.set_attn_implementation(PACKED)


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether `model` returns the same hidden states for a packed batch as for a padded one.

    Checks whether the class allows its attention to be swapped (MPNet and DeBERTa don't), then runs the encoder on 13
    tokens, packed and padded. The run is needed for models like MobileBERT: its attention can be swapped, but its
    embeddings mix neighbouring tokens. The padded batch runs with the model's own attention, which may be more than the
    formula (attention sinks). The model and the random state are not changed.
    """
    parameters = inspect.signature(model.base_model.forward).parameters.values()
    takes_any_argument = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    # A decoder without the flag is packed only if a packed batch gives what a padded one does.
    is_encoder = not says_causal(model) and not getattr(model.config, "is_encoder_decoder", False)
    can_swap_attention = model._supports_attention_backend and model._can_set_attn_implementation()
    if not (takes_any_argument and is_encoder and can_swap_attention):
        return False
    with torch.no_grad(), gathered(model), evaluating(model):
        try:
            return _packs_like_padded(model)
        except (UnreadyModelError, TypeError):  # the model also uses its mask outside attention, as ESM does
            return False


def require_padding(model: PreTrainedModel, pad_token_id: int) -> None:
    """Refuse a model whose outputs for a row change if the row is padded.

    Convolutions, downsampling and approximations of attention may mix padding into tokens, and a head may read a row's
    last position. The model runs where it is. A sharded model (ZeRO-3) isn't checked, since a rank may have no room for
    all of it; nor is one that can't run there, such as flash attention on a CPU.

    Raises:
        ValueError: with the difference for a short row.
    """
    if is_sharded(model) or model.device.type == "meta":
        return
    try:
        change = _change_by_padding(model, pad_token_id)
    except Exception as error:  # whether it can run will be seen when it must
        logger.info("%s was not checked for padding, since it doesn't run here: %s", type(model).__name__, error)
        return
    # TF32 on a GPU changes outputs by a thousandth, bfloat16 by a few hundredths.
    if change > (0.01 if _is_exact(model) else 0.1):
        raise ValueError(
            f"The outputs of {type(model).__name__} for a row change if the row is padded, by {change:.1g} of the "
            "largest one. Its losses and embeddings would depend on the other rows of the batch. Choose another "
            "architecture."
        )


def _change_by_padding(model: PreTrainedModel, pad_token_id: int) -> float:
    """How much hidden states, and logits of whole rows, change if a row is padded, relative to the largest one."""
    vocabulary = len(model.get_input_embeddings().weight)
    # The sequence heads of BART and T5 read the row's last end token.
    eos = getattr(model.config, "eos_token_id", None)
    ends = [eos] if isinstance(eos, int) and eos < vocabulary else []
    words = [token for token in range(min(vocabulary, 16)) if token not in (pad_token_id, *ends)] or [0]
    short, long = (torch.tensor([words[i % len(words)] for i in range(count)] + ends) for count in (3, 9))
    layout = TokenLayout.from_lengths([len(short), len(long)], packed=False)
    alone = {"input_ids": short[None], "attention_mask": torch.ones_like(short)[None]}
    padded = {"input_ids": layout.pad(torch.cat([short, long]), pad_token_id), "attention_mask": layout.mask.long()}
    # In half precision, logits near 0 have no exact digits.
    runs = [model.base_model, model] if is_row_wise(model) and _is_exact(model) else [model.base_model]
    changes = []
    with torch.no_grad(), evaluating(model):
        for run in runs:
            expected, found = (
                run(**{name: tensor.to(model.device) for name, tensor in inputs.items()})[0][0]
                for inputs in (alone, padded)
            )
            found = found[: len(short)] if found.dim() == 2 else found
            largest = float(expected.abs().max())
            if not 0 < largest < math.inf:  # untrained vectors of a static model; the trainer refuses NaN
                return 0.0
            same_shape = found.shape == expected.shape and found.isfinite().all()
            changes.append(float((found - expected).abs().max()) / largest if same_shape else math.inf)
    return max(changes)


def _is_exact(model: PreTrainedModel) -> bool:
    return model.dtype in (torch.float32, torch.float64)


def position_offset(model: PreTrainedModel) -> int:
    """The position id of a row's first token: 0, or `padding_idx + 1` for models that count as RoBERTa does.

    The position table of such models has a row for padding, by which they are recognised.
    """
    table = _position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def position_count(model: PreTrainedModel) -> int | None:
    """The number of tokens that a model has position embeddings for; None if it has no table of positions."""
    table = _position_table(model)
    if table is None:
        return None
    # Under ZeRO-3 the weight itself is empty.
    rows = getattr(table.weight, "ds_shape", table.weight.shape)[0]
    return rows - position_offset(model)


def _position_table(model: PreTrainedModel) -> nn.Module | None:
    """The first table of positions. It need not be an `nn.Embedding`: I-BERT has a class of its own."""
    tables = (part for name, part in model.base_model.named_modules() if name.endswith("position_embeddings"))
    return next((table for table in tables if hasattr(table, "padding_idx") and hasattr(table, "weight")), None)


def _packs_like_padded(model: PreTrainedModel) -> bool:
    """Compare the encoder's outputs for three short rows, packed and padded."""
    encoder = model.base_model
    here = TokenLayout.from_lengths([3, 3, 7], packed=True)
    layout = here.to(encoder.device)
    embedding = encoder.get_input_embeddings()
    padding = embedding.padding_idx or 0
    vocabulary = torch.arange(min(embedding.num_embeddings, layout.tokens + 1), device=encoder.device)
    vocabulary = vocabulary[vocabulary != padding]
    token_ids = vocabulary[torch.arange(layout.tokens, device=encoder.device) % len(vocabulary)]
    with attending(model):
        packed = encoder(
            input_ids=token_ids[None],
            position_ids=(layout.positions + position_offset(encoder))[None],
            attention_mask=Packing.from_layout(here).to(encoder.device),
        ).last_hidden_state
    padded = encoder(input_ids=layout.pad(token_ids, padding), attention_mask=layout.mask.long()).last_hidden_state
    difference = (packed[0] - layout.unpad(padded)).abs().max()
    tolerance = 1e-5 if _is_exact(model) else 0.05
    return bool(difference <= tolerance * padded.abs().max())
