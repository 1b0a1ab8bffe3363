"""An encoder of bidirectional LSTMs, after the student of XtremeDistil (https://arxiv.org/abs/2004.05686)."""

from typing import ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput, TokenClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, is_tracing
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_bilstm import BiLstmConfig

NOT_RIGHT_PADDED = (
    "The attention mask is not right-padded (one or more ones, then zeros, in every row), and an LSTM would read the "
    "padding before the tokens. Set the tokenizer's padding_side='right', and leave out empty rows."
)


def lengths_from_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """Number of tokens of each row, `[batch]`, from a mask `[batch, seq]` of ones, then zeros.

    Raises:
        ValueError: a row doesn't begin with a one, or has a one after a zero. On a GPU the check is asynchronous and
            raises a RuntimeError later.
    """
    mask = attention_mask.bool()
    if not is_tracing(mask):
        is_right_padded = mask[:, 0].all() & (mask[:, 1:] <= mask[:, :-1]).all()
        if is_on_cpu(mask):
            if not is_right_padded:
                raise ValueError(NOT_RIGHT_PADDED)
        else:
            torch._assert_async(is_right_padded, NOT_RIGHT_PADDED)
    return mask.sum(1)


def is_on_cpu(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values can be read without synchronising with a device."""
    return tensor.device.type == "cpu"


def reversal_index(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Index that reverses the tokens of each row and leaves its padding in place: `[batch]` -> `[batch, seq]`."""
    positions = torch.arange(width, device=lengths.device)
    return torch.where(positions < lengths[:, None], lengths[:, None] - 1 - positions, positions)


def reverse(hidden_states: torch.Tensor, reversal: torch.Tensor) -> torch.Tensor:
    """Reverse the tokens of each row, `[batch, seq, features]`. Reversing twice restores the order."""
    return hidden_states.gather(1, reversal[..., None].expand_as(hidden_states))


class BiLstmEmbeddings(nn.Module):
    """Word embeddings with dropout, without position embeddings."""

    def __init__(self, config: BiLstmConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: torch.Tensor | None = None, inputs_embeds: torch.Tensor | None = None) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        return self.dropout(inputs_embeds)


class BiLstmLayer(nn.Module):
    """One LSTM from the first token to the last and one from the last to the first; their outputs are concatenated."""

    def __init__(self, config: BiLstmConfig, layer_idx: int):
        super().__init__()
        input_size = 2 * config.lstm_hidden_size if layer_idx else config.embedding_size
        self.forward_lstm = nn.LSTM(input_size, config.lstm_hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(input_size, config.lstm_hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, reversal: torch.Tensor) -> torch.Tensor:
        # cuDNN computes gradients of LSTMs in train mode only. These LSTMs have no dropout, so their mode changes
        # nothing else, and the model can also be trained in eval mode.
        for lstm in (self.forward_lstm, self.backward_lstm):
            lstm.train(torch.is_grad_enabled())
        # With right padding both directions read the padding last, so the result is as exact as with packed sequences.
        # But the lengths need not be known on the CPU, and training on a CPU is up to twice as fast.
        forward_states, _ = self.forward_lstm(hidden_states)
        backward_states, _ = self.backward_lstm(reverse(hidden_states, reversal))
        return self.dropout(torch.cat([forward_states, reverse(backward_states, reversal)], dim=-1))


class BiLstmPreTrainedModel(PreTrainedModel):
    """Configuration and weight initialisation of the models below."""

    config: BiLstmConfig
    base_model_prefix = "bilstm"
    _input_embed_layer = "word_embeddings"
    # The losses are means over a batch, so a Trainer that accumulates gradients has to divide them.
    accepts_loss_kwargs = False
    _can_record_outputs: ClassVar = {"hidden_states": BiLstmLayer}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as Keras does: orthogonal recurrent weights and a forget-gate bias of 1."""
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):
            init.orthogonal_(module.weight_hh_l0)
            # A slice lacks the flag by which transformers recognises loaded weights.
            if not getattr(module.bias_ih_l0, "_is_hf_initialized", False):
                init.ones_(module.bias_ih_l0[module.hidden_size : 2 * module.hidden_size])


class BiLstmModel(BiLstmPreTrainedModel):
    """Word embeddings, `num_hidden_layers` bidirectional LSTMs and a projection with GELU.

    The projection makes the output as wide as a transformer's hidden states. Dropout is applied to the outputs of
    embeddings and layers, not to the recurrent connections: cuDNN and oneDNN don't support the paper's variational
    dropout.
    """

    def __init__(self, config: BiLstmConfig):
        super().__init__(config)
        self.embeddings = BiLstmEmbeddings(config)
        self.layers = nn.ModuleList([BiLstmLayer(config, i) for i in range(config.num_hidden_layers)])
        self.projector = nn.Linear(2 * config.lstm_hidden_size, config.hidden_size)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode a batch.

        Args:
            input_ids: `[batch, seq]`.
            attention_mask: `[batch, seq]`, ones and then zeros in every row; all ones by default.
            inputs_embeds: `[batch, seq, embedding_size]`, instead of `input_ids`.

        Returns:
            `last_hidden_state` `[batch, seq, hidden_size]`, meaningless in the padding; `pooler_output`
            `[batch, hidden_size]`, the projection of the two LSTMs' final states: the forward LSTM's at the last token,
            the backward LSTM's at the first; with `output_hidden_states=True` also `hidden_states`: the embeddings
            `[batch, seq, embedding_size]`, the output of every layer but the last
            `[batch, seq, 2 * lstm_hidden_size]`, and `last_hidden_state`.

        Raises:
            ValueError: neither or both of `input_ids` and `inputs_embeds` are given, or the mask is not right-padded.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")

        hidden_states = self.embeddings(input_ids, inputs_embeds)
        if attention_mask is None:
            attention_mask = torch.ones(hidden_states.shape[:2], dtype=torch.long, device=hidden_states.device)
        lengths = lengths_from_mask(attention_mask)
        reversal = reversal_index(lengths, hidden_states.shape[1])
        for layer in self.layers:
            hidden_states = layer(hidden_states, reversal)

        forward_states, backward_states = hidden_states.chunk(2, dim=-1)
        rows = torch.arange(lengths.shape[0], device=lengths.device)
        final_states = torch.cat([forward_states[rows, lengths - 1], backward_states[:, 0]], dim=-1)
        return BaseModelOutputWithPooling(
            last_hidden_state=nn.functional.gelu(self.projector(hidden_states)),
            pooler_output=nn.functional.gelu(self.projector(final_states)),
        )


class BiLstmClassifier(BiLstmPreTrainedModel):
    """A `BiLstmModel` with dropout and a classifier. Subclasses choose the output to classify."""

    classified: ClassVar[str]
    output_class: ClassVar[type[ModelOutput]]

    def __init__(self, config: BiLstmConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bilstm = BiLstmModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ModelOutput:
        """As `BiLstmModel.forward`, with a `loss` if `labels` are given. Subclasses define `logits` and `labels`."""
        outputs = self.bilstm(input_ids, attention_mask, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs[self.classified]))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=self.config)
        return self.output_class(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


class BiLstmForTokenClassification(BiLstmClassifier):
    """A `BiLstmModel` with a classifier on every token, e.g. for named-entity recognition.

    `labels` are `[batch, seq]`, -100 at ignored tokens; `logits` are `[batch, seq, num_labels]`.
    """

    classified = "last_hidden_state"
    output_class = TokenClassifierOutput


class BiLstmForSequenceClassification(BiLstmClassifier):
    """A `BiLstmModel` with a classifier on the final states of both directions.

    `labels` are `[batch]` classes; `[batch]` floats if `num_labels` is 1; or `[batch, num_labels]` zeros and ones with
    `problem_type="multi_label_classification"`. `logits` are `[batch, num_labels]`.
    """

    classified = "pooler_output"
    output_class = SequenceClassifierOutput


__all__ = ["BiLstmForSequenceClassification", "BiLstmForTokenClassification", "BiLstmModel", "BiLstmPreTrainedModel"]
