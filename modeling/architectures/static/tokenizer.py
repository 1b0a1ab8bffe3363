"""Tokenizers of static models, which add no special tokens."""

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def static_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer that adds no special tokens to texts, as sentence-transformers and model2vec do.

    Raises:
        ValueError: the tokenizer is slow, or has neither a padding token nor an unknown token to pad with.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer. Load a fast one with AutoTokenizer.")
    padding = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    if padding is None:
        raise ValueError(f"{type(tokenizer).__name__} has no token to pad with. Set its pad_token.")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    backend.no_padding()
    backend.no_truncation()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=padding,
        unk_token=tokenizer.unk_token,
        model_max_length=tokenizer.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=False,
    )
