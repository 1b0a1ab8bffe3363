"""A BERT with factorised word embeddings that runs a few layers several times.

The student of Ding et al. 2022 (https://arxiv.org/abs/2209.05869): "parameter recurrent" layers and "bottleneck"
embeddings. Layers are transformers' own `BertLayer`, so attention implementations and checkpointing are BERT's.
"""

from typing import ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertLayer, BertPooler, BertPredictionHeadTransform, BertSelfAttention
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_recurrent_bert import RecurrentBertConfig


class RecurrentBertProjection(nn.Linear):
    """Linear map without bias from the width of the word embeddings to that of the hidden states, and back."""

    def __init__(self, config: RecurrentBertConfig):
        super().__init__(config.embedding_size, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor, back: bool = False) -> torch.Tensor:
        """`[..., embedding_size]` -> `[..., hidden_size]`; the reverse, by the transposed matrix, if `back`."""
        return nn.functional.linear(states, self.weight.T if back else self.weight)


class RecurrentBertEmbeddings(nn.Module):
    """Word embeddings, projected if narrower than `hidden_size`, plus position and token type embeddings."""

    def __init__(self, config: RecurrentBertConfig):
        super().__init__()
        self.padding_idx = config.pad_token_id
        self.roberta_positions = config.roberta_positions
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=self.padding_idx)
        is_narrow = config.embedding_size < config.hidden_size
        self.projection = RecurrentBertProjection(config) if is_narrow else None
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings,
            config.hidden_size,
            padding_idx=self.padding_idx if self.roberta_positions else None,
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
    ) -> torch.Tensor:
        if position_ids is None:
            position_ids = self.count_positions(input_ids, inputs_embeds)
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if self.projection is not None:
            inputs_embeds = self.projection(inputs_embeds)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        embeddings = inputs_embeds + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))

    def count_positions(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Position ids as BERT or RoBERTa counts them, `[batch, seq]` or `[1, seq]`."""
        given = inputs_embeds if input_ids is None else input_ids
        if not self.roberta_positions or input_ids is None:
            start = self.padding_idx + 1 if self.roberta_positions else 0
            return torch.arange(start, start + given.shape[1], device=given.device)[None]
        is_word = input_ids.ne(self.padding_idx).long()
        return is_word.cumsum(1) * is_word + self.padding_idx


class RecurrentBertEncoder(nn.Module):
    """The unique layers A, B, C, run as ABC ABC ABC."""

    def __init__(self, config: RecurrentBertConfig):
        super().__init__()
        self.num_recurrent_steps = config.num_recurrent_steps
        self.layer = nn.ModuleList([BertLayer(config, layer_idx=index) for index in range(config.num_unique_layers)])

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs) -> torch.Tensor:
        for _ in range(self.num_recurrent_steps):
            for layer in self.layer:
                hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states


class RecurrentBertPreTrainedModel(PreTrainedModel):
    """Configuration of the models below, and the transformers features that they support."""

    config: RecurrentBertConfig
    base_model_prefix = "recurrent_bert"
    _input_embed_layer = "word_embeddings"
    # The losses are means over a batch, so a Trainer that accumulates gradients has to divide them.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar = ["RecurrentBertEmbeddings", "BertLayer"]
    _can_record_outputs: ClassVar = {"hidden_states": BertLayer, "attentions": BertSelfAttention}


class RecurrentBertModel(RecurrentBertPreTrainedModel):
    """Embeddings and recurrent layers, with BERT's pooler on top unless `add_pooling_layer=False`."""

    def __init__(self, config: RecurrentBertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = RecurrentBertEmbeddings(config)
        self.encoder = RecurrentBertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode a batch.

        Args:
            input_ids: `[batch, seq]`.
            attention_mask: `[batch, seq]`, 1 for tokens and 0 for padding; all ones by default.
            token_type_ids: `[batch, seq]`; all zeros by default.
            position_ids: `[batch, seq]` or `[1, seq]`; by default counted as `roberta_positions` says.
            inputs_embeds: `[batch, seq, embedding_size]`, instead of `input_ids`.

        Returns:
            `last_hidden_state` `[batch, seq, hidden_size]`; `pooler_output` `[batch, hidden_size]` or None; with
            `output_hidden_states=True` also `hidden_states`, the embeddings and the output of every layer call,
            `num_hidden_layers + 1` of `[batch, seq, hidden_size]`; with `output_attentions=True` and eager attention
            `attentions`, `num_hidden_layers` of `[batch, heads, seq, seq]`.

        Raises:
            ValueError: neither or both of `input_ids` and `inputs_embeds` are given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=embeddings, attention_mask=attention_mask)
        hidden_states = self.encoder(embeddings, mask, position_ids=position_ids, **kwargs)
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class RecurrentBertMaskedLMHead(nn.Module):
    """BERT's transform, the transposed projection and the word embeddings as the output layer."""

    def __init__(self, config: RecurrentBertConfig):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.embedding_size, config.vocab_size)

    def forward(self, hidden_states: torch.Tensor, projection: RecurrentBertProjection | None) -> torch.Tensor:
        """`[..., hidden_size]` -> `[..., vocab_size]`."""
        hidden_states = self.transform(hidden_states)
        return self.decoder(hidden_states if projection is None else projection(hidden_states, back=True))


class RecurrentBertWithHead(RecurrentBertPreTrainedModel):
    """A `RecurrentBertModel` with a head, which subclasses define."""

    has_pooler: ClassVar[bool] = False
    output_class: ClassVar[type[ModelOutput]]

    def __init__(self, config: RecurrentBertConfig):
        super().__init__(config)
        self.recurrent_bert = RecurrentBertModel(config, add_pooling_layer=self.has_pooler)

    def logits_of(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        """The head's logits for the encoder's outputs."""
        raise NotImplementedError

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ModelOutput:
        """As `RecurrentBertModel.forward`, with a `loss` if `labels` are given. Subclasses define both shapes."""
        outputs = self.recurrent_bert(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.logits_of(outputs)
        loss = None
        if labels is not None:
            # Each of transformers' loss functions uses some of these arguments and ignores the others.
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                pooled_logits=logits,
                vocab_size=self.config.vocab_size,
                config=self.config,
            )
        return self.output_class(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class RecurrentBertForMaskedLM(RecurrentBertWithHead):
    """A `RecurrentBertModel` with a masked-LM head, whose output layer is tied to the word embeddings.

    `labels` are `[batch, seq]`, -100 at ignored tokens; `logits` are `[batch, seq, vocab_size]`.
    """

    output_class = MaskedLMOutput
    _tied_weights_keys: ClassVar = {"head.decoder.weight": "recurrent_bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: RecurrentBertConfig):
        super().__init__(config)
        self.head = RecurrentBertMaskedLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.head.decoder = new_embeddings

    def logits_of(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        return self.head(outputs.last_hidden_state, self.recurrent_bert.embeddings.projection)


class RecurrentBertClassifier(RecurrentBertWithHead):
    """A `RecurrentBertModel` with dropout and a classifier. Subclasses choose the output to classify."""

    classified: ClassVar[str]

    def __init__(self, config: RecurrentBertConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def logits_of(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        return self.classifier(self.dropout(outputs[self.classified]))


class RecurrentBertForTokenClassification(RecurrentBertClassifier):
    """A `RecurrentBertModel` with a classifier on every token, e.g. for named-entity recognition.

    `labels` are `[batch, seq]`, -100 at ignored tokens; `logits` are `[batch, seq, num_labels]`.
    """

    classified = "last_hidden_state"
    output_class = TokenClassifierOutput


class RecurrentBertForSequenceClassification(RecurrentBertClassifier):
    """A `RecurrentBertModel` with a classifier on the pooled first token.

    `labels` are `[batch]` classes; `[batch]` floats if `num_labels` is 1; or `[batch, num_labels]` zeros and ones with
    `problem_type="multi_label_classification"`. `logits` are `[batch, num_labels]`.
    """

    has_pooler = True
    classified = "pooler_output"
    output_class = SequenceClassifierOutput


__all__ = [
    "RecurrentBertForMaskedLM",
    "RecurrentBertForSequenceClassification",
    "RecurrentBertForTokenClassification",
    "RecurrentBertModel",
    "RecurrentBertPreTrainedModel",
]
