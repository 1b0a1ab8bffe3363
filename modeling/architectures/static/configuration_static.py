"""Configuration of an encoder of static token vectors."""

from transformers import PreTrainedConfig


class StaticConfig(PreTrainedConfig):
    """Sizes of a `StaticModel`, in the `config.json` of model2vec (https://github.com/MinishLab/model2vec).

    Args:
        vocab_size: number of tokens.
        hidden_size: width of the token vectors.
        unk_token_id: id of the unknown token, whose vector is zero. None if the tokenizer has none.
        normalize: whether model2vec scales embeddings to unit length. retort writes it with the folder's modules, and
            doesn't read it.
        further: see `PreTrainedConfig`.
    """

    model_type = "model2vec"
    # Not settings: generic code reads them, but this model has neither layers nor attention.
    num_hidden_layers = 0
    num_attention_heads = 0

    vocab_size: int = 30522
    hidden_size: int = 256
    unk_token_id: int | None = None
    pad_token_id: int | None = 0
    normalize: bool = False


__all__ = ["StaticConfig"]
