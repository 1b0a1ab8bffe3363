"""What the tests of trimmed tokenizers share: a corpus, models made by hand, and a short way to trim."""

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from retort.data import trim_tokenizer

# Two columns, four languages.
TEXTS = {"source": ["der schöne Hund", "the dog runs", "a rock"], "target": ["мой дом", "日本", "the dogs."]}
CORPUS = [text for column in TEXTS.values() for text in column]


def with_roles(backend):
    roles = {"unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{role}_token": name for role, name in roles.items() if backend.token_to_id(name)}
    )


def bpe(merges, letters, **options):
    names = dict.fromkeys(["<unk>", *letters])
    prefix = len(options.get("continuing_subword_prefix", ""))
    names |= dict.fromkeys(left + right[prefix:] for left, right in merges)
    vocab = {name: index for index, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", **options))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_roles(backend)


def tokens(tokenizer, *texts):
    return [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(*texts)["input_ids"]]


def trim(tokenizer, texts=CORPUS, **limits):
    return trim_tokenizer(tokenizer, Dataset.from_dict({"text": texts}), **limits)
