"""Configuration of a BERT that runs a few layers several times."""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import BertConfig


def default_auto_map() -> dict[str, str]:
    """`auto_map` of a saved model: every Auto class loads its class, whatever head the weights were saved with."""
    module = "modeling_recurrent_bert.RecurrentBert"
    heads = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
    models = {f"AutoModel{head}": f"{module}{head}" for head in heads}
    config = "configuration_recurrent_bert.RecurrentBertConfig"
    return {"AutoConfig": config, "AutoModel": f"{module}Model"} | models


@strict
class RecurrentBertConfig(BertConfig):
    """Sizes of a `RecurrentBertModel`. Arguments that are not listed are those of `BertConfig`.

    Args:
        embedding_size: width of the word embeddings, at most `hidden_size`. If it is less, they are projected to
            `hidden_size`.
        num_hidden_layers: number of layer calls in a forward pass; a multiple of `num_unique_layers`.
        num_unique_layers: number of layers with their own weights. They run in order, repeatedly.
        roberta_positions: count positions as RoBERTa does, from `pad_token_id + 1` and without padding tokens, instead
            of as BERT does, from 0.
        auto_map: classes that `trust_remote_code=True` loads.
        further: see `BertConfig`.

    Raises:
        ValueError: the sizes are inconsistent.
    """

    model_type = "recurrent_bert"

    embedding_size: int = 128
    num_unique_layers: int = 3
    roberta_positions: bool = False
    auto_map: dict[str, str] | None = field(default_factory=default_auto_map)

    @property
    def num_recurrent_steps(self) -> int:
        """How many times each layer runs in a forward pass."""
        return self.num_hidden_layers // self.num_unique_layers

    def validate_architecture(self) -> None:
        """Check the sizes. transformers calls this when a configuration is created."""
        super().validate_architecture()
        if self.num_unique_layers < 1 or self.num_hidden_layers % self.num_unique_layers:
            raise ValueError(
                f"num_hidden_layers={self.num_hidden_layers} is no multiple of num_unique_layers="
                f"{self.num_unique_layers}: the unique layers are run a whole number of times."
            )
        if not 1 <= self.embedding_size <= self.hidden_size:
            raise ValueError(
                f"embedding_size={self.embedding_size}, but word embeddings are 1 to hidden_size={self.hidden_size} "
                "wide."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of num_attention_heads={self.num_attention_heads}."
            )


__all__ = ["RecurrentBertConfig"]
