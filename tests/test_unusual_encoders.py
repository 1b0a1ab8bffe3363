"""Encoders that differ from BERT in one respect: read as they are, or refused with the reason."""

import every_family
import pytest
import tiny
import torch
import transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from retort import DistillTrainer, shrink, tokenize
from retort.collators import most_tokens
from retort.modeling.encoding import OutputRequest, SentenceEncoder, TokenLayout, encode
from retort.modeling.onnx import export_onnx
from retort.trainers.objectives import Dimensions

LENGTHS = [5, 9, 3]
MAPS = OutputRequest(attentions=frozenset({0}))


@pytest.fixture(autouse=True)
def vocabulary(monkeypatch):
    monkeypatch.setitem(every_family.SIZES, "vocab_size", tiny.VOCAB_SIZE)


def encoder(name, seed=0, architecture=None, **changes):
    """The tiny encoder without a head, or with the head of a class."""
    config = every_family.build(name, seed).config
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    auto = getattr(transformers, architecture or "AutoModel")
    return auto.from_config(config).eval()


def xlnet(seed=0, **more):
    torch.manual_seed(seed)
    config = transformers.XLNetConfig(
        vocab_size=tiny.VOCAB_SIZE, d_model=32, n_layer=3, n_head=4, d_inner=48, pad_token_id=0, **more
    )
    return transformers.XLNetModel(config).eval()


def canine(architecture="CanineModel", seed=0):
    torch.manual_seed(seed)
    sizes = {
        name: size
        for name, size in every_family.SIZES.items()
        if name.startswith(("hidden_s", "inter", "num_h", "num_att"))
    }
    config = transformers.CanineConfig(
        **sizes,
        num_hash_buckets=64,
        num_hash_functions=2,
        local_transformer_stride=4,
        downsampling_rate=2,
        upsampling_kernel_size=2,
        pad_token_id=0,
        num_labels=3,
    )
    return getattr(transformers, architecture)(config).eval()


def padded_batch(lengths=LENGTHS):
    layout = TokenLayout.from_lengths(lengths, packed=False)
    ids = torch.randint(5, 90, (len(lengths), layout.width), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * layout.mask, "attention_mask": layout.mask.long()}, layout


def trainer_of(student, teacher, folder, tokenizer, **settings):
    texts = Dataset.from_dict({"text": tiny.sentences(16), "y": [i % 3 for i in range(16)]})
    rows = tokenize(texts, tokenizer, labels="y" if "label_weight" in settings else None)
    args = tiny.arguments(folder, max_steps=1, save_strategy="no", **settings)
    return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)


# --- Poolers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["albert", "big_bird"])
def test_poolers_whose_activation_is_in_the_model_give_what_the_model_gives(name, tokenizer, tmp_path):
    changes = {"attention_type": "original_full"} if name == "big_bird" else {}
    model = encoder(name, **changes)
    inputs, layout = padded_batch()
    with torch.no_grad():
        found = encode(model, inputs, layout, OutputRequest(pooler="cls")).embedding
        torch.testing.assert_close(found, model(**inputs).pooler_output)
    trainer = trainer_of(encoder(name, 1, **changes), model, tmp_path, tokenizer, similarity_weight=1.0, pooler="cls")
    trainer.train()
    trainer.save_model()
    expected = torch.tensor(SentenceTransformer(str(tmp_path), device="cpu").encode(tiny.sentences(3)))
    torch.testing.assert_close(SentenceEncoder.from_pretrained(tmp_path).encode(tiny.sentences(3)), expected)


@pytest.mark.promise(9)
def test_a_linear_pooler_without_activation_is_refused():
    model, (inputs, layout) = tiny.model("bert"), padded_batch()
    model.pooler = torch.nn.Linear(32, 32)
    with pytest.raises(ValueError, match=r"of BertModel is a linear map whose activation wasn't found. Use 'cls_bef"):
        encode(model, inputs, layout, OutputRequest(pooler="cls"))
    assert encode(model, inputs, layout, OutputRequest(pooler="mean")).embedding.shape == (3, 32)


# --- Sizes that a configuration doesn't have --------------------------------------------------------------------------


@pytest.mark.promise(5)
def test_an_encoder_without_a_limit_of_positions_is_saved_and_exported(tokenizer, tmp_path):
    assert most_tokens(xlnet()) == float("inf")
    trainer = trainer_of(shrink(xlnet(), layers=2), xlnet(), tmp_path, tokenizer, embedding_weight=1.0)
    trainer.train()
    trainer.save_model()
    export_onnx(trainer.student, tokenizer, tmp_path)
    texts = tiny.sentences(4, seed=3)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    ours = SentenceEncoder.from_pretrained(tmp_path)
    torch.testing.assert_close(ours.encode(texts), torch.tensor(theirs.encode(texts)))
    assert SentenceEncoder.of(theirs).max_length == ours.max_length


def test_sizes_that_no_objective_needs_may_be_missing():
    assert Dimensions.of(encoder("fnet").config).attention_heads is None
    assert Dimensions.of(canine("CanineForSequenceClassification").config).vocab_size is None


@pytest.mark.promise(9)
def test_attention_is_not_compared_with_that_of_an_encoder_without(tokenizer, tmp_path):
    bert, fnet = tiny.model(), encoder("fnet")
    for student, teacher, role in ((bert, fnet, "teacher"), (fnet, bert, "student")):
        with pytest.raises(ValueError, match=f"relation_weight compares attention, but the {role} has none"):
            trainer_of(student, teacher, tmp_path, tokenizer, relation_weight=1.0, relation_heads=4)


# --- Attention maps ---------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5]])
def test_maps_over_windows_are_refused_at_any_width(lengths):
    model, (inputs, layout) = encoder("longformer", attention_window=[4] * 4), padded_batch(lengths)
    with pytest.raises(
        ValueError, match=r"LongformerModel returns attention maps .* a row and a column for each token"
    ):
        encode(model, inputs, layout, MAPS)


@pytest.mark.promise(9)
def test_an_architecture_that_returns_no_maps_is_not_told_to_become_eager():
    model, (inputs, layout) = encoder("mra"), padded_batch()
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match=r"MraModel returns no attention maps, although it runs .*relation_weight"):
        encode(model, inputs, layout, MAPS)


# --- Longformer and Reformer ------------------------------------------------------------------------------------------


def test_a_copy_of_a_longformer_classifier_has_its_hidden_states(tokenizer, tmp_path):
    teacher = encoder("longformer", 0, "AutoModelForSequenceClassification", num_labels=3)
    settings = {"hidden_weight": 1.0, "layer_map": "last", "label_weight": 1.0, "learning_rate": 0.0}
    trainer = trainer_of(shrink(teacher), teacher, tmp_path, tokenizer, disable_dropout=True, **settings)
    trainer.train()
    assert trainer.state.log_history[0]["loss_hidden"] == pytest.approx(0, abs=1e-8)


@pytest.mark.promise(9)
def test_a_reformer_is_refused_as_student_and_as_teacher_of_states(tokenizer, tmp_path):
    reformer = encoder("reformer")
    for student, teacher in ((reformer, tiny.model()), (tiny.model(), reformer)):
        trainer = trainer_of(student, teacher, tmp_path, tokenizer, embedding_weight=1.0)
        with pytest.raises(
            ValueError, match=r"ReformerModel has reversible layers, .* can only be a teacher of logits"
        ):
            trainer.train()


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["embeddinggemma", "fnet"])
def test_what_onnx_cannot_hold_is_refused_with_the_models_name(name, tokenizer, tmp_path):
    model = encoder(name)
    with pytest.raises(RuntimeError, match=f"{type(model).__name__} can't be exported to ONNX: .*Serve it by PyTorch"):
        export_onnx(model, tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []
