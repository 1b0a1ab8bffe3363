"""Runs a model on a few tokens, to see in which direction they attend."""

import inspect

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...modes import evaluating, is_sharded

# Longer than the sliding windows of tiny models, but fast for models of 24 layers on a CPU.
PROBE_TOKENS = 16


class StoppedProbe(Exception):
    """Raised by a hook during a run on a few tokens. `first_output` passes it on as it is."""


def is_causal(model: PreTrainedModel) -> bool:
    """Whether tokens attend only to those before them, as in decoders.

    Many decoders say so (`is_causal` of their attention). The others (BLOOM, GPT, XGLM) are run on a few tokens, unless
    they are sharded (ZeRO-3), since a rank may have no room for a whole one.
    """
    if says_causal(model):
        return True
    if is_sharded(model):
        return False
    try:
        sees_later, sees_earlier = attends_to(model.base_model, probe_tokens(model))
    except ValueError:  # it needs more than token ids, or doesn't run here
        return False
    return sees_earlier and not sees_later


def says_causal(model: PreTrainedModel) -> bool:
    """Whether a model has the flag of causal attention."""
    return any(getattr(module, "is_causal", False) for module in model.base_model.modules())


def attends_to(encoder: PreTrainedModel, tokens: Tensor) -> tuple[bool, bool]:
    """Whether tokens attend to later tokens, and to earlier ones: then their hidden states depend on them.

    Args:
        tokens: `[1, tokens]` ids. One half of them is exchanged for others, since saturated attention may ignore a
            single one.
    """
    half, others = tokens.shape[1] // 2, tokens.flip(1)
    with_other_end = torch.cat([tokens[:, :half], others[:, half:]], 1)
    with_other_start = torch.cat([others[:, :half], tokens[:, half:]], 1)
    plain, end, start = (first_output(encoder, ids)[0] for ids in (tokens, with_other_end, with_other_start))
    if plain.shape[:1] != tokens.shape[1:]:
        return True, True  # the first output has no state for each token
    return not torch.equal(plain[:half], end[:half]), not torch.equal(plain[half:], start[half:])


def probe_tokens(model: PreTrainedModel) -> Tensor:
    """`[1, tokens]`: ids of different words without the padding token."""
    config = model.config
    longest = getattr(config, "max_position_embeddings", None) or PROBE_TOKENS
    longest = longest if longest > 0 else PROBE_TOKENS  # XLNet has -1 for no limit
    # Positions may start after the padding token's id.
    count = max(2, min(PROBE_TOKENS, longest - 2))
    padding = getattr(config, "pad_token_id", None)
    # The configuration of a model with several parts has no vocabulary of its own.
    vocabulary = getattr(config, "vocab_size", None) or len(model.get_input_embeddings().weight)
    words = [i for i in range(min(vocabulary, count + 8)) if i != padding] or [0]
    words = words[-count:]
    return torch.tensor([[words[i % len(words)] for i in range(count)]])


def first_output(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The model's first output for these ids (hidden states or logits), in float32 on the CPU.

    Under ZeRO-3 its parameters must be gathered.
    """
    tokens = tokens.to(model.device)
    # Without a cache, since a layer that runs a second time would attend to its first run.
    optional = {"attention_mask": torch.ones_like(tokens), "use_cache": False}
    known = inspect.signature(model.base_model.forward).parameters
    inputs = {"input_ids": tokens} | {name: value for name, value in optional.items() if name in known}
    try:
        with torch.no_grad(), evaluating(model):
            return model(**inputs)[0].float().cpu()
    except StoppedProbe:
        raise
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} can't be run on token ids alone, as shrink does to compare a student with its "
            f"teacher: {error}"
        ) from error
