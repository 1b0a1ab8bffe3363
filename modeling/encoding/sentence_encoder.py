"""A sentence encoder: an encoder, its tokenizer and the modules that turn a text into one vector."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..batching import map_batches
from ..loading import load_encoder, require_weights
from .attention import is_causal, require_padding
from .encode import encode
from .layout import TokenLayout, most_positions
from .outputs import OutputRequest
from .pooling import Pooling
from .sentence_files import encoder_subfolder, read_sentence_modules, require_lowercase, write_sentence_modules
from .sentence_format import StoredModule, check_static, parse_modules, require_known
from .sentence_modules import SentenceModules
from .sentence_routes import refuse_route, resolve_route

logger = logging.get_logger(__name__)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceEncoder:
    """An encoder with its tokenizer and its sentence-transformers modules.

    `encode` returns the same embeddings as `SentenceTransformer.encode`.

    Args:
        model: an encoder without a head; or a decoder, if its last token is pooled.
        tokenizer: the model's tokenizer.
        modules: prompts, maximal length, pooling and the modules after it.

    Raises:
        ValueError: the modules have another width than the encoder; a prompt leaves no room for a text; the tokenizer
            pads on the left, but the model has absolute positions, or outputs change with padding, so embeddings would
            depend on the batch; or the model is static, but its files can't store it (see `check_static`).
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, modules: SentenceModules):
        self.model = model
        self.tokenizer = tokenizer
        self.modules = modules
        self.embedding_size = modules.embedding_size(model.config.hidden_size)
        _check_padding(model, tokenizer)
        check_static(model, tokenizer, modules)
        self.prompt_length(modules.prompt())

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        route: str | None = None,
        pooler: str | None = None,
        max_length: int | None = None,
        **loading: Any,
    ) -> SentenceEncoder:
        """Load a sentence-transformers model, or any encoder with a pooler.

        Args:
            source: folder or hub id.
            route: for a model with a `Router`, the task ("query", "document") or route of the texts. Default: the
                model's default, as in `SentenceTransformer.encode`.
            pooler: one of `POOLERS`, for a model without `modules.json`. Its embeddings then have unit length. The
                files of a sentence-transformers model define its pooling, and `pooler` is ignored.
            max_length: texts are truncated to this many tokens, or to the model's limit if it is less. Default: the
                model's limit, or 128 for a model without `modules.json`.
            loading: arguments of `from_pretrained` of transformers. Default: float32.

        Raises:
            ValueError: a model without `modules.json` is causal, or no `pooler` is given for it; a module is not
                supported; or there is no such route.
        """
        modules = read_sentence_modules(source, route=route)
        if modules is None and pooler is None:
            raise ValueError(
                f"{source} has no modules.json, which would define its pooling. Choose a pooler: "
                "SentenceEncoder.from_pretrained(source, pooler='mean')."
            )
        if modules is None:
            return cls.with_pooler(source, pooler, normalize=True, max_length=max_length or 128, **loading)
        encoder = cls(*_load_encoder(source, encoder_subfolder(source, route=route), loading), modules)
        return encoder if max_length is None else encoder.cut_at(max_length)

    @classmethod
    def with_pooler(
        cls, source: str | os.PathLike, pooler: str, *, normalize: bool = False, max_length: int = 128, **loading: Any
    ) -> SentenceEncoder:
        """Load any encoder in float32 with the given pooler, ignoring the sentence-transformers modules in its files.

        Args:
            source: folder or hub id.
            pooler: one of `POOLERS`.
            normalize: whether embeddings are scaled to unit length.
            max_length: texts are truncated to this many tokens, or to the tokenizer's `model_max_length` if it is less.
            loading: as in `from_pretrained`. Default: float32.

        Raises:
            ValueError: the model is causal. Its pooling has to come from its files.
        """
        model, tokenizer = _load_encoder(source, encoder_subfolder(source), loading)
        require_bidirectional(model, f"an encoder with pooler={pooler!r}")
        return cls(model, tokenizer, SentenceModules.plain(pooler, max_length, normalize=normalize))

    @classmethod
    def of(cls, model: SentenceTransformer, *, route: str | None = None) -> SentenceEncoder:
        """Convert a `SentenceTransformer`. The encoder and all weights in float32 are shared, not copied.

        Args:
            model: the model. Training changes its weights, and a teacher is frozen.
            route: as in `from_pretrained`.

        Raises:
            ValueError: a module is not supported, or there is no such route.
        """
        stages = _stages(model, route)
        kinds = [type(stage).__name__ for stage in stages]
        source = "This SentenceTransformer"
        require_known(source, kinds)
        first = stages[0]
        if kinds[0] == "StaticEmbedding":
            raise ValueError(f"{source} has static token vectors. Save it, and load its folder by from_pretrained.")
        if getattr(first, "do_lower_case", False):
            require_lowercase(source, first.tokenizer)
        for stage in stages[1:]:
            activation = getattr(stage, "activation_function", None)
            if activation is not None and repr(activation) != repr(type(activation)()):
                raise ValueError(
                    f"{source} has a Dense with the activation {activation}, whose settings are not saved."
                )
        stored = [StoredModule(kinds[0], first.get_config_dict())] + [
            StoredModule(kind, stage.get_config_dict(), stage.state_dict(keep_vars=True))
            for kind, stage in zip(kinds[1:], stages[1:], strict=True)
        ]
        names = ("prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name")
        settings = {name: getattr(model, name) for name in names}
        longest = min(first.max_seq_length or math.inf, most_positions(first.auto_model.config))
        modules = parse_modules(source, stored, settings, longest)
        return cls(first.auto_model, first.tokenizer, modules)

    # --- Embeddings ---------------------------------------------------------------------------------------------------

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> Tensor:
        """Embed texts in the model's dtype and on its device.

        Texts are sorted by length, longest first, and batched. The model runs in eval mode, and its previous mode is
        restored afterwards.

        Args:
            texts: `rows` strings.
            prompt_name: name of the prompt to put before every text. Default: the model's default prompt.
            prompt: the prompt itself, instead of its name; "" for none.
            batch_size: texts per forward pass.
            progress: show a progress bar.

        Returns:
            `[rows, embedding_size]`, float32, on the CPU.

        Raises:
            ValueError: `texts` is empty or a single string, a text has no tokens, or there is no prompt of that name.
        """
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"encode takes a list of at least one text, but got {texts!r}.")
        prompt = self.modules.prompt(prompt_name) if prompt is None else prompt
        encoded = self._tokenize([prompt + text for text in texts])
        rows = [{name: column[row] for name, column in encoded.items()} for row in range(len(texts))]
        if (empty := next((row for row in range(len(rows)) if not rows[row]["input_ids"]), None)) is not None:
            raise ValueError(f"Text {empty}, {texts[empty]!r}, has no tokens, and so no embedding. Leave it out.")
        pooling = self.pooling(prompt)

        def of_batch(chosen: list[int], inputs: dict[str, Tensor]) -> Tensor:
            lengths = [len(rows[row]["input_ids"]) for row in chosen]
            layout = TokenLayout.from_lengths(lengths, packed=False).to(self.model.device)
            return self.embed(inputs, layout, pooling).float().cpu()

        label = "Embedding" if progress else None
        made = map_batches(of_batch, rows, self.model, self.tokenizer, batch_size=batch_size, progress=label)
        return torch.stack(made)

    def encode_query(self, texts: Sequence[str], **settings: Any) -> Tensor:
        """Embed queries: `encode` under the prompt that `SentenceTransformer.encode_query` uses."""
        return self.encode(texts, prompt=self.modules.query_prompt, **settings)

    def encode_document(self, texts: Sequence[str], **settings: Any) -> Tensor:
        """Embed documents: `encode` under the prompt that `SentenceTransformer.encode_document` uses."""
        return self.encode(texts, prompt=self.modules.document_prompt, **settings)

    def embed(self, inputs: dict[str, Tensor], layout: TokenLayout, pooling: Pooling | None = None) -> Tensor:
        """Embeddings of one batch, in the model's current mode, with gradients unless they are disabled.

        Args:
            inputs: forward arguments of the model, prompt tokens included; `[rows, width]` if `layout` is padded,
                `[1, tokens]` if it is packed.
            layout: the rows and tokens of the batch.
            pooling: the pooling of rows with another prompt than the default one (see the method `pooling`).

        Returns:
            `[rows, embedding_size]`
        """
        request = OutputRequest(pooler=pooling or self.pooling())
        return self.modules.finish(encode(self.model, inputs, layout, request).embedding)

    def pooling(self, prompt: str | None = None) -> Pooling:
        """The pooling of rows that begin with `prompt`. Default: the default prompt."""
        prompt = self.modules.prompt() if prompt is None else prompt
        skipped = 0 if self.modules.include_prompt else self.prompt_length(prompt)
        return replace(self.modules.pooling, skipped=skipped)

    def prompt_tokens(self, prompt: str) -> list[int]:
        """The token ids at the start of rows with a prompt, special tokens included."""
        ids = self._tokenize([prompt])["input_ids"][0] if prompt else []
        # In a row, the special token at the end comes after the text.
        return ids[:-1] if ids and ids[-1] in self.tokenizer.all_special_ids else ids

    def prompt_length(self, prompt: str) -> int:
        """Number of tokens of a prompt at the start of a row, special tokens included.

        Raises:
            ValueError: the prompt leaves no room for a text.
        """
        length = len(self.prompt_tokens(prompt))
        if length and length + 1 >= self.max_length:
            raise ValueError(
                f"The prompt {prompt!r} has {length} tokens and leaves no room for a text: prompt and text have at "
                f"most {self.max_length} tokens."
            )
        return length

    @property
    def max_length(self) -> int:
        """Number of tokens to which texts are truncated, prompt and special tokens included."""
        return min(self.modules.max_length, self.tokenizer.model_max_length)

    def _tokenize(self, texts: list[str]) -> dict[str, list[list[int]]]:
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_length)
        if any(encoding.overflowing for encoding in encoded.encodings or ()):
            logger.warning_once("Texts of more than %d tokens are truncated before they are embedded.", self.max_length)
        return dict(encoded)

    # --- Copies with changes, and saving ------------------------------------------------------------------------------

    def with_model(self, model: PreTrainedModel, pooler: str | None = None) -> SentenceEncoder:
        """A student's encoder with this tokenizer and maximal length, and with this pooling unless `pooler` is given.

        Prompts, `truncate_dim` and modules with weights (Dense, LayerNorm) are not copied: a student is trained without
        them. A Normalize at the end is kept.
        """
        pooling, normalize = pooler or self.modules.pooling, self.modules.normalizes
        plain = SentenceModules.plain(pooling, self.modules.max_length, normalize=normalize)
        return SentenceEncoder(model, self.tokenizer, plain)

    def cut_at(self, max_length: int) -> SentenceEncoder:
        """The same encoder, with texts truncated to `max_length` tokens unless its own limit is lower."""
        shorter = replace(self.modules, max_length=min(max_length, self.modules.max_length))
        return SentenceEncoder(self.model, self.tokenizer, shorter)

    def not_normalized(self) -> SentenceEncoder:
        """The same encoder without a Normalize at the end."""
        head = self.modules.head[:-1] if self.modules.normalizes else self.modules.head
        return SentenceEncoder(self.model, self.tokenizer, replace(self.modules, head=nn.Sequential(*head)))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Save to a folder that `SentenceTransformer(folder)` loads and that gives equal embeddings."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.write_modules(folder)

    def write_modules(self, folder: str | os.PathLike) -> None:
        """Write the sentence-transformers files to a folder that already holds the encoder and its tokenizer."""
        modules = replace(self.modules, max_length=self.max_length)
        write_sentence_modules(folder, modules, folder, padding_side=self.tokenizer.padding_side)


def _load_encoder(
    source: str | os.PathLike, folder: str, loading: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder, in float32 unless `loading` sets another dtype, and its tokenizer."""
    settings = {"dtype": torch.float32, "output_loading_info": True} | loading
    model, report = load_encoder(source, subfolder=folder, **settings)
    require_weights(source, report["missing_keys"])
    return model.eval(), AutoTokenizer.from_pretrained(source, subfolder=folder)


def _stages(model: SentenceTransformer, route: str | None) -> list[nn.Module]:
    """The modules of a model in order, with a Router replaced by the modules of the chosen route."""
    source = "This SentenceTransformer"
    stages: list[nn.Module] = []
    if not any(type(stage).__name__ == "Router" for stage in model):
        refuse_route(source, route)
    for stage in model:
        if type(stage).__name__ != "Router":
            stages.append(stage)
            continue
        mappings = {str(pair): name for pair, name in stage.route_mappings.items()}
        # With allow_empty_key, the Router has already set its default_route.
        settings = {"default_route": stage.default_route, "allow_empty_key": False, "route_mappings": mappings}
        stages += stage.sub_modules[resolve_route(source, list(stage.sub_modules), settings, route)]
    return stages


def as_sentence_encoder(model: Any) -> Any:
    """Convert a `SentenceTransformer` to a `SentenceEncoder`; return anything else as it is."""
    # sentence-transformers is an extra. If an object of it exists, it has been imported.
    library = sys.modules.get("sentence_transformers")
    return SentenceEncoder.of(model) if library and isinstance(model, library.SentenceTransformer) else model


def require_bidirectional(model: PreTrainedModel, role: str) -> None:
    """Refuse a causal model where only a bidirectional encoder works."""
    if is_causal(model):
        raise ValueError(
            f"{type(model).__name__} is a causal model, so it can't be used as {role}. It can be a teacher, or be "
            "evaluated, as a sentence-transformers folder whose files define its pooling."
        )


def _check_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse left padding for absolute positions, as `encode` counts tokens from 0; and models that mix padding in."""
    if tokenizer.pad_token_id is not None:
        require_padding(model, tokenizer.pad_token_id)
    absolute = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and ("position" in name or "wpe" in name) and module.padding_idx is None
    ]
    if tokenizer.padding_side == "left" and absolute:
        raise ValueError(
            f"The tokenizer pads on the left, but {type(model).__name__} has absolute positions ({absolute[0]}): "
            "embeddings would depend on the batch. Set padding_side='right'."
        )
