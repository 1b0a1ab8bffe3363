"""Configuration of an encoder of bidirectional LSTMs."""

from transformers import PreTrainedConfig


class BiLstmConfig(PreTrainedConfig):
    """Sizes of a `BiLstmModel`; the defaults are those of XtremeDistil (https://arxiv.org/abs/2004.05686).

    Args:
        vocab_size: rows of the word embeddings.
        embedding_size: width of the word embeddings.
        lstm_hidden_size: width of the LSTM's state in each direction; a layer's output is twice as wide.
        num_hidden_layers: number of stacked bidirectional layers.
        hidden_size: width of the projected output. If it equals the teacher's, hidden states are compared without a
            projection.
        hidden_dropout_prob: dropout probability after the embeddings, after every layer and before the classifier.
        initializer_range: standard deviation of newly initialised embeddings and linear maps.
        pad_token_id: id of the padding token, whose embedding is not trained.
        further: see `PreTrainedConfig`.
    """

    model_type = "bilstm"
    # Not a setting: generic code reads the number of heads, but this model has no attention.
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
