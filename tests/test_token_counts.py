"""How often a text has each token."""

import pytest
import tiny
from datasets import Dataset
from transformers import ByT5Tokenizer

from retort.data import count_tokens


def test_tokens_of_all_columns_are_counted_without_those_that_a_tokenizer_adds():
    tokenizer = tiny.tokenizer()
    tokenizer(["the cat"], padding="max_length", truncation=True, max_length=3)  # which its backend remembers
    texts = Dataset.from_dict({"source": ["the cat on the red tree", ""], "target": ["the", "a cat [MASK]"]})
    counts = count_tokens(tokenizer, texts)
    assert len(counts) == len(tokenizer)
    found = {
        tokenizer.convert_ids_to_tokens(index): counts[index].item() for index in counts.nonzero().flatten().tolist()
    }
    assert found == {"the": 3, "cat": 2, "on": 1, "red": 1, "tree": 1, "a": 1, "[MASK]": 1}


@pytest.mark.promise(9)
def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ValueError, match="ByT5Tokenizer is a slow tokenizer"):
        count_tokens(ByT5Tokenizer(), Dataset.from_dict({"text": ["a"]}))
