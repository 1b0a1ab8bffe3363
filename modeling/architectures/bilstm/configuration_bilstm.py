"""Configuration of an encoder of bidirectional LSTMs."""

from transformers import PreTrainedConfig


class BiLstmConfig(PreTrainedConfig):
    """Sizes of a `BiLstmModel`; the defaults are those of XtremeDistil (https://arxiv.org/abs/2004.05686).

    Args:
        vocab_size: rows of the word embeddings.
        embedding_size: width of the word embeddings.
        lstm_hidden_size: width of the LSTM's state in each direction; a layer's output is twice as wide.
        num_hidden_layers: number of bidirectional layers, each on top of the one before.
        hidden_size: width of the projected output. That of a teacher lets the two be compared as they are.
        hidden_dropout_prob: share of the values dropped after the embeddings, after every layer and before the
            classifier.
        initializer_range: standard deviation of fresh embeddings and linear maps.
        pad_token_id: its embedding is not trained.
        further: see `PreTrainedConfig`.
    """

    model_type = "bilstm"
    # Not a setting: generic code reads the number of heads, and there is no attention.
    num_attention_heads = 0

    vocab_size: int = 30522
    embedding_size: int = 300
    lstm_hidden_size: int = 600
    num_hidden_layers: int = 1
    hidden_size: int = 768
    hidden_dropout_prob: float = 0.2
    initializer_range: float = 0.02
    pad_token_id: int | None = 0


__all__ = ["BiLstmConfig"]
