"""Runs a model over many rows in padded batches of similar length, without gradients and in eval mode."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from .modes import evaluating

Result = TypeVar("Result")


def map_batches(
    forward: Callable[[list[int], dict[str, Tensor]], Iterable[Result]],
    rows: Sequence[dict[str, list[int]]],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    progress: str | None = None,
) -> list[Result]:
    """Apply `forward` to rows in batches, the longest rows first.

    If the model is an `nn.Module`, it runs in eval mode, and its previous mode is restored afterwards.

    Args:
        forward: called with the indices of a batch's rows in `rows` and with their inputs, `[batch, width]` each,
            padded on the right and on the model's device. Returns one result for each row.
        rows: forward arguments of each row, unpadded, including `input_ids`.
        model: the model that `forward` runs; must have a `device`.
        tokenizer: pads the rows.
        batch_size: rows per call of `forward`.
        progress: label of a progress bar. None shows no bar.

    Returns:
        The results, in the order of `rows`.
    """
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
    results: dict[int, Result] = {}
    mode = evaluating(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.inference_mode(), tqdm(total=len(rows), desc=progress, unit="text", disable=not progress) as bar:
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            inputs = tokenizer.pad([rows[row] for row in chosen], padding_side="right", return_tensors="pt")
            results.update(zip(chosen, forward(chosen, dict(inputs.to(model.device))), strict=True))
            bar.update(len(chosen))
    return [results[row] for row in range(len(rows))]
