"""Small models, tokenizers and runs made on the spot: no download, no file."""

import os

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from retort import DistillTrainingArguments
from retort.collators import Batch
from retort.modeling.encoding import Dense, Normalize, Pooling, SentenceModules

WORDS = (
    "the a cat dog bird sat ran flew on over under mat tree house red blue small big old new man woman child reads "
    "writes book letter in at with river city walks sees finds lost old song light dark water stone wind"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB_SIZE = 160

AUTO_CLASSES = {
    "encoder": AutoModel,
    "masked_lm": AutoModelForMaskedLM,
    "token": AutoModelForTokenClassification,
    "sequence": AutoModelForSequenceClassification,
}


def sentences(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    """Distinct-looking sentences of 1 to `longest` words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=generator)) for n in lengths]


def wordpiece_vocabulary(words: list[str]) -> dict[str, int]:
    """These words whole, others in letters. Not trained: ties make a trained vocabulary another one in every process,
    and tests compare processes."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = SPECIAL + letters + [f"##{letter}" for letter in letters] + words
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def tokenizer(kind: str = "wordpiece", vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """A tokenizer of one of the three kinds: wordpiece, bpe (byte level) or unigram, the last two trained; or a second
    one of wordpieces (wordpiece, other words), which shares letters and some words with the first."""
    text = sentences(400, seed=7)
    if kind.startswith("wordpiece"):
        words = WORDS[::2] if kind == "wordpiece" else WORDS[::3]
        backend = Tokenizer(models.WordPiece(wordpiece_vocabulary(words), unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = None
    elif kind == "bpe":
        backend = Tokenizer(models.BPE(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
        )
    if trainer:
        backend.train_from_iterator(text, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, backend.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def config(family: str, *, layers=2, hidden=32, heads=4, intermediate=48, vocab_size=VOCAB_SIZE, labels=3, **extra):
    """A small configuration of one of the eight families. Token ids 0 to 4 are pad, unk, cls, sep and mask."""
    common = {"vocab_size": vocab_size, "num_labels": labels, "pad_token_id": 0} | extra
    if family == "distilbert":
        sizes = {"dim": hidden, "n_layers": layers, "n_heads": heads, "hidden_dim": intermediate}
        return DistilBertConfig(**sizes, max_position_embeddings=64, **common)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": 66,
    }
    common = sizes | common
    if family == "bert":
        return BertConfig(**common)
    if family in ("roberta", "xlm-roberta"):
        # These families count positions from pad_token_id + 1.
        cls = RobertaConfig if family == "roberta" else XLMRobertaConfig
        return cls(**{"type_vocab_size": 1, "bos_token_id": 2, "eos_token_id": 3} | common)
    if family == "electra":
        return ElectraConfig(**{"embedding_size": hidden // 2} | common)
    if family == "mpnet":
        return MPNetConfig(**{"bos_token_id": 2, "eos_token_id": 3} | common)
    if family == "deberta-v2":
        relative = {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        }
        return DebertaV2Config(**relative | common)
    if family == "modernbert":
        special = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        return ModernBertConfig(**special | {"local_attention": 8, "reference_compile": False} | common)
    raise ValueError(f"No tiny configuration for {family}.")


FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert")


def model(family: str = "bert", task: str = "encoder", *, seed: int = 0, **sizes):
    """A small model with random weights: task is encoder, masked_lm, token or sequence."""
    torch.manual_seed(seed)
    made = AUTO_CLASSES[task].from_config(config(family, **sizes)).eval()
    # Fresh encoders have weights of 0.02, so small that every output looks alike and a wrong layer would pass.
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return made


def arguments(folder, kind=DistillTrainingArguments, **settings) -> DistillTrainingArguments:
    """Of a quiet run in steps of 8 rows, each of them logged; `settings` win.

    It computes on the CPU, or where RETORT_TEST_DEVICE says (see benchmarks/on_a_gpu).
    """
    defaults = {
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "use_cpu": os.environ.get("RETORT_TEST_DEVICE", "cpu") == "cpu",
        "disable_tqdm": True,
        "report_to": [],
    }
    return kind(output_dir=str(folder), **defaults | settings)


def parts(batch: Batch) -> set[str]:
    """The names of what a batch holds."""
    return {name for name, value in vars(batch).items() if value is not None and value != {}}


def surrounding(pooler="mean", max_length=16, normalize=True, projector=None) -> SentenceModules:
    """A pooler, a linear map and normalisation, as a student is exported with them."""
    head = [Dense(projector, nn.Identity())] if projector is not None else []
    head += [Normalize()] if normalize else []
    return SentenceModules(Pooling.of(pooler), max_length, nn.Sequential(*head))
