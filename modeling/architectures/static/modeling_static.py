"""An encoder without layers: the hidden state of a token is its vector, whatever the text."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from .configuration_static import StaticConfig


class StaticModel(PreTrainedModel):
    """One vector for each token; a text's embedding is their mean.

    A weight for each token, as in model2vec, needs no parameter: it is the length of the token's vector. The mean of
    `w * v` is the weighted mean of `v`, up to a factor that normalisation removes.

    The vector of the unknown token is zero and isn't trained, since model2vec leaves unknown tokens out.

    The parameter is called `embeddings` and belongs to no submodule. So `save_pretrained` writes model2vec's format.
    """

    config: StaticConfig
    base_model_prefix = "static"
    _no_split_modules = None
    _supports_attention_backend = True  # packed batches need no attention

    def __init__(self, config: StaticConfig):
        super().__init__(config)
        self.embeddings = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.normal_(self.embeddings)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token vectors as an `nn.Embedding`, which shares the parameter."""
        size = self.config.vocab_size, self.config.hidden_size
        words = nn.Embedding(*size, padding_idx=self.config.unk_token_id, device="meta")
        words.weight = self.embeddings
        return words

    def forward(self, input_ids: torch.LongTensor, attention_mask=None, **kwargs) -> BaseModelOutput:
        """Look up the vectors of a batch.

        Args:
            input_ids: `[batch, seq]`.
            attention_mask: not read, since tokens don't attend to others.
            kwargs: further arguments of encoders, such as `position_ids`; not read.

        Returns:
            `last_hidden_state` `[batch, seq, hidden_size]`
        """
        # The row of `padding_idx` gets no gradient.
        unknown = self.config.unk_token_id
        return BaseModelOutput(nn.functional.embedding(input_ids, self.embeddings, padding_idx=unknown))


__all__ = ["StaticModel"]
