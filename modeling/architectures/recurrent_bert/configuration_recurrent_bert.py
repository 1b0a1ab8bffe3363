"""Configuration of a BERT that runs a few layers several times."""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import BertConfig


def travelling_code() -> dict[str, str]:
    """Which class of the code beside the weights an Auto class loads, whatever head the weights were saved with."""
    module = "modeling_recurrent_bert.RecurrentBert"
    heads = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
    models = {f"AutoModel{head}": f"{module}{head}" for head in heads}
    config = "configuration_recurrent_bert.RecurrentBertConfig"
    return {"AutoConfig": config, "AutoModel": f"{module}Model"} | models


@strict
class RecurrentBertConfig(BertConfig):
    """Sizes of a `RecurrentBertModel`; what isn't listed means what it means in `BertConfig`.

    Args:
        embedding_size: width of the word embeddings, at most `hidden_size`. Narrower ones are projected to
            `hidden_size`; as wide ones are not.
        num_hidden_layers: layers that a token passes, each pass counted.
        num_unique_layers: layers that have weights of their own, run one after the other, over and over:
            `num_hidden_layers` must be a multiple.
        roberta_positions: whether positions are counted as in RoBERTa, from `pad_token_id + 1` on and over padding,
            or as in BERT, from 0 on.
        auto_map: what `trust_remote_code=True` loads.
        further: see `BertConfig`.

    Raises:
        ValueError: sizes that don't go together.
    """

    model_type = "recurrent_bert"

    embedding_size: int = 128
    num_unique_layers: int = 3
    roberta_positions: bool = False
    auto_map: dict[str, str] | None = field(default_factory=travelling_code)

    @property
    def num_recurrent_steps(self) -> int:
        """How often each layer is run."""
        return self.num_hidden_layers // self.num_unique_layers

    def validate_architecture(self) -> None:
        """Called by transformers when a configuration is made."""
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
