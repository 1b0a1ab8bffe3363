"""From token vectors to one embedding per row."""

from torch import Tensor, nn

from .layout import TokenLayout

POOLERS = ("mean", "cls", "cls_before_pooler", "mean_last_two", "mean_first_last", "mean_first")


def pooled_hidden_states(pooler: str, depth: int) -> tuple[int, ...]:
    """The hidden states that a pooler reads, counted as transformers does: 0 is the embedding layer's output.

    Args:
        pooler: one of `POOLERS`.
        depth: number of encoder layers.
    """
    if pooler not in POOLERS:
        raise ValueError(f"Unknown pooler {pooler!r}. Choose one of: {', '.join(POOLERS)}.")
    averaged = {"mean_last_two": (depth - 1, depth), "mean_first_last": (0, depth), "mean_first": (0,)}
    return averaged.get(pooler, (depth,))


def pool(
    pooler: str, layout: TokenLayout, hidden_states: dict[int, Tensor], pooler_module: nn.Module | None = None
) -> Tensor:
    """Pool token vectors into embeddings.

    Args:
        pooler: `"mean"` over the tokens of the last layer (special tokens included, as sentence-transformers does);
            `"cls"`, the model's own pooler on the first token; `"cls_before_pooler"`, the bare first token;
            `"mean_last_two"` and `"mean_first_last"`, the mean over tokens of the average of two hidden states, where
            the first is the embedding layer's output (SimCSE's `avg_top2` and `avg_first_last`); `"mean_first"`, of
            that one alone: no layer is run.
        layout: where the tokens lie.
        hidden_states: those that `pooled_hidden_states` names, each `[tokens, hidden]`.
        pooler_module: the encoder's `pooler`, which takes `[rows, seq, hidden]` and reads the first token.

    Returns:
        `[rows, hidden]`

    Raises:
        ValueError: `"cls"` is asked of a model without a pooler.
    """
    last = hidden_states[max(hidden_states)]
    if pooler == "cls_before_pooler":
        return layout.first(last)
    if pooler == "cls":
        if pooler_module is None:
            raise ValueError(
                "pooler='cls' needs an encoder with a pooler of its own (BERT, RoBERTa, MPNet). This one has none: "
                "use 'cls_before_pooler' or 'mean'."
            )
        return pooler_module(layout.first(last)[:, None])
    # Sums of many bfloat16 vectors would lose what little precision they have.
    states = [state.float() for state in hidden_states.values()]
    return layout.mean(sum(states[1:], start=states[0]) / len(states))
