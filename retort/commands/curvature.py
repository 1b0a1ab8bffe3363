"""Estimate how tree-like a model's token vectors are, and the curvature of the hyperbolic space that would suit them.

python examples/estimate_curvature.py --model bert-base-cased --text corpus.txt

Prints Gromov's delta, the diameter, the relative delta (0: a tree) and c, the curvature for a hyperbolic contrastive
loss (Khrulkov et al. 2020, arXiv:1904.02239): the mean over some random samples of tokens, and the standard deviation.
Special tokens count as others do. Another layer or another text has another curvature.
"""

import argparse
from itertools import accumulate
from statistics import pstdev

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..data.readers import read_texts
from ..data.tokenization import tokenize
from ..evaluation.report import aligned
from ..evaluation.sentences import Hyperbolicity, sample_hyperbolicity
from ..modeling import map_batches
from ..modeling.encoding import OutputRequest, TokenLayout, encode
from .command_line import plain_parser

# Tokens that are embedded for each that is sampled: neighbours resemble each other, and come from fewer texts.
SPARE = 4
BATCH_SIZE = 32


def main() -> None:
    """Parse, embed, sample, print."""
    options = parse_options()
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    model = AutoModel.from_pretrained(options.model, dtype=torch.float32).to(device)
    layer = layer_index(model, options.layer)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    wanted = SPARE * options.samples * options.tries
    rows = sample_rows(options.text, tokenizer, options.max_length, wanted, generator)
    vectors = token_vectors(model, tokenizer, rows, layer)
    try:
        print(summary(sample_hyperbolicity(vectors, generator, samples=options.samples, tries=options.tries)))
    except ValueError as error:
        raise SystemExit(f"Layer {layer} of {options.model}, {len(vectors):,} tokens: {error}") from error
    used = min(options.samples, len(vectors))
    print(f"\n{options.tries} samples of {used:,} among {len(vectors):,} tokens, layer {layer} of {options.model}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder or hub id of an encoder")
    parser.add_argument(
        "--text", required=True, nargs="+", metavar="FILE", help="text such as the model will read; .txt: one per line"
    )
    parser.add_argument(
        "--layer", type=int, default=-1, help="0: the embeddings, i: the i-th layer, -1: the last; default: -1"
    )
    parser.add_argument("--samples", type=int, default=1000, help="tokens of a sample, at least 4; default: 1000")
    parser.add_argument("--tries", type=int, default=5, help="how many samples; default: 5")
    parser.add_argument("--max_length", type=int, default=128, help="tokens to which texts are cut; default: 128")
    parser.add_argument("--seed", type=int, default=0, help="decides on texts and tokens; default: 0")
    options = parser.parse_args()
    for name, least in (("samples", 4), ("tries", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}, but must be at least {least}")
    return options


def layer_index(model: PreTrainedModel, given: int) -> int:
    """An index of hidden states from 0, as `encode` takes it.

    Raises:
        SystemExit: the model has no such layer.
    """
    depth = model.config.num_hidden_layers
    if not -depth - 1 <= given <= depth:
        raise SystemExit(f"--layer {given}: the model has the layers 0 to {depth}, or {-depth - 1} to -1.")
    return given % (depth + 1)


def sample_rows(
    sources: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int, tokens: int, generator: torch.Generator
) -> list[dict[str, list[int]]]:
    """Random texts, as tokens: so many texts that they have `tokens` tokens, or all."""
    texts = read_texts(sources)
    chosen = torch.randperm(len(texts), generator=generator)[:tokens].tolist()  # each has a token at least
    ids = tokenize(texts.select(chosen), tokenizer, max_length=max_length)["input_ids"][:]
    before = accumulate(map(len, ids), initial=0)
    return [{"input_ids": row} for row, seen in zip(ids, before, strict=False) if seen < tokens]


def token_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, list[int]]], layer: int
) -> torch.Tensor:
    """`[tokens, hidden]`, the hidden states of all tokens, on the CPU."""
    request = OutputRequest(hidden_states=frozenset({layer}))

    def forward(chosen: list[int], inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        lengths = [len(rows[row]["input_ids"]) for row in chosen]
        layout = TokenLayout.from_lengths(lengths, packed=False).to(model.device)
        return encode(model, inputs, layout, request, stop_early=True).hidden_states[layer].cpu().split(lengths)

    return torch.cat(map_batches(forward, rows, model, tokenizer, batch_size=BATCH_SIZE, progress="Embedding"))


def summary(found: list[Hyperbolicity]) -> str:
    """A line for each quantity: its mean, and its standard deviation over the samples."""
    mean = Hyperbolicity.mean(found)
    quantities = {"delta": "delta", "diameter": "diameter", "relative delta": "relative", "c": "curvature"}
    lines = [
        [label, f"{getattr(mean, name):.4g}", "±", f"{pstdev(getattr(each, name) for each in found):.2g}"]
        for label, name in quantities.items()
    ]
    return "\n".join(aligned(lines, gap=2))
