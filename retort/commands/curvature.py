"""Estimates how tree-like a model's token vectors are, and the matching hyperbolic curvature."""

import argparse
from itertools import accumulate
from statistics import pstdev

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..data.readers import read_texts
from ..data.tokenization import tokenize
from ..evaluation.report import aligned
from ..evaluation.sentences import Hyperbolicity, sample_hyperbolicity
from ..modeling import load_encoder, map_batches, require_model
from ..modeling.encoding import OutputRequest, TokenLayout, encode

# Number of embedded tokens for each sampled one, so that samples come from many texts: tokens of a text are similar.
TOKENS_PER_SAMPLE = 4
BATCH_SIZE = 32


def run(options: argparse.Namespace) -> None:
    """Embed texts, sample tokens and print the estimates."""
    require_model("--model", options.model)
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    model = load_encoder(options.model, dtype=torch.float32).to(device)
    layer = layer_index(model, options.layer)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    wanted = TOKENS_PER_SAMPLE * options.samples * options.tries
    rows = sample_rows(options.text, tokenizer, options.max_length, wanted, generator)
    vectors = token_vectors(model, tokenizer, rows, layer)
    try:
        print(summary(sample_hyperbolicity(vectors, generator, samples=options.samples, tries=options.tries)))
    except ValueError as error:
        raise SystemExit(f"Layer {layer} of {options.model}, {len(vectors):,} tokens: {error}") from error
    used = min(options.samples, len(vectors))
    print(f"\n{options.tries} samples of {used:,} among {len(vectors):,} tokens, layer {layer} of {options.model}")


def layer_index(model: PreTrainedModel, given: int) -> int:
    """Convert --layer to an index of hidden states, from 0."""
    depth = model.config.num_hidden_layers
    if not -depth - 1 <= given <= depth:
        raise SystemExit(f"--layer {given}: the model has layers 0 to {depth}, or {-depth - 1} to -1.")
    return given % (depth + 1)


def sample_rows(
    sources: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int, tokens: int, generator: torch.Generator
) -> list[dict[str, list[int]]]:
    """Tokenize random texts with at least `tokens` tokens in total, or all texts if there are fewer."""
    texts = read_texts(sources)
    chosen = torch.randperm(len(texts), generator=generator)[:tokens].tolist()  # each text has at least one token
    ids = tokenize(texts.select(chosen), tokenizer, max_length=max_length)["input_ids"][:]
    before = accumulate(map(len, ids), initial=0)
    return [{"input_ids": row} for row, seen in zip(ids, before, strict=False) if seen < tokens]


def token_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, list[int]]], layer: int
) -> torch.Tensor:
    """Hidden states of all tokens, `[tokens, hidden]`, on the CPU."""
    request = OutputRequest(hidden_states=frozenset({layer}))

    def forward(chosen: list[int], inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        lengths = [len(rows[row]["input_ids"]) for row in chosen]
        layout = TokenLayout.from_lengths(lengths, packed=False).to(model.device)
        return encode(model, inputs, layout, request, stop_early=True).hidden_states[layer].cpu().split(lengths)

    return torch.cat(map_batches(forward, rows, model, tokenizer, batch_size=BATCH_SIZE, progress="Embedding"))


def summary(found: list[Hyperbolicity]) -> str:
    """A line with mean and standard deviation over the samples for each quantity."""
    mean = Hyperbolicity.mean(found)
    quantities = {"delta": "delta", "diameter": "diameter", "relative delta": "relative", "c": "curvature"}
    lines = [
        [label, f"{getattr(mean, name):.4g}", "±", f"{pstdev(getattr(each, name) for each in found):.2g}"]
        for label, name in quantities.items()
    ]
    return "\n".join(aligned(lines, gap=2))
