"""The encoder of an encoder-decoder (T5) goes wherever another encoder goes: to a folder, and back as anything."""

import every_family
import pytest
import tiny
import torch
import transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from retort import DistillTrainer, shrink, tokenize
from retort.evaluation.sentences import load_embedder
from retort.modeling import load_encoder, load_finished
from retort.modeling.encoding import SentenceEncoder

KINDS = ("t5 encoder", "umt5 encoder")


def trainer_of(student, teacher, folder, tokenizer, **settings):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    args = tiny.arguments(folder, max_steps=2, save_strategy="no", **settings)
    return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)


@pytest.fixture(params=KINDS)
def encoder(request, monkeypatch):
    monkeypatch.setitem(every_family.SIZES, "vocab_size", tiny.VOCAB_SIZE)
    return every_family.build(request.param)


@pytest.mark.promise(5)
@pytest.mark.promise(9)
def test_what_was_trained_is_loaded_as_student_teacher_and_model(encoder, tokenizer, tmp_path):
    folder = tmp_path / "run"
    trainer = trainer_of(shrink(encoder, layers=2), encoder, folder, tokenizer, embedding_weight=1.0)
    trainer.train()
    trainer.save_model()
    texts, kind = tiny.sentences(5, seed=3), type(encoder)
    expected = torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(texts))
    for loaded in (SentenceEncoder.from_pretrained(folder), load_embedder(str(folder), "mean", 64)):
        assert type(loaded.model) is kind
        found = torch.nn.functional.normalize(loaded.encode(texts), dim=-1)
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5, rtol=1e-4)
    assert type(load_finished(folder)[0]) is kind
    taught = trainer_of(shrink(encoder, layers=1), str(folder), tmp_path / "second", tokenizer, embedding_weight=1.0)
    taught.train()
    (theirs,) = taught.teacher.models
    assert type(theirs) is kind
    assert all(torch.equal(weight, trainer.student.state_dict()[name]) for name, weight in theirs.state_dict().items())


@pytest.mark.promise(5)
def test_the_card_says_which_class_loads_it_and_it_does(encoder, tokenizer, tmp_path):
    for name, weights in {"embeddings": {"embedding_weight": 1.0}, "states": {"hidden_weight": 1.0}}.items():
        folder = tmp_path / name
        trainer_of(shrink(encoder, layers=2), encoder, folder, tokenizer, **weights).save_model()
        card, named = (folder / "README.md").read_text(), type(encoder).__name__
        whole = type(AutoModel.from_pretrained(folder)).__name__
        assert f"`AutoModel` would load it as a `{whole}`, whose decoder would be random" in card
        assert f"load it by `transformers.{named}`" in card
        assert ("SentenceTransformer(" in card) == (name == "embeddings")
        assert (f'{named}.from_pretrained("{name}")' in card) == (name == "states")
        assert "pipeline(" not in card
        assert not getattr(transformers, named).from_pretrained(folder, output_loading_info=True)[1]["missing_keys"]


def test_no_other_student_has_such_a_line_in_its_card(tokenizer, tmp_path):
    trainer_of(tiny.model("bert"), tiny.model("bert", seed=1), tmp_path, tokenizer, embedding_weight=1.0).save_model()
    assert "decoder" not in (tmp_path / "README.md").read_text()


def test_of_files_with_both_parts_the_encoder_is_taken(tokenizer, tmp_path):
    config = every_family.CONFIG_MAPPING["t5"](**tiny_sizes(), decoder_start_token_id=0)
    both = transformers.T5ForConditionalGeneration(config).eval()
    both.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path)(input_ids=ids)[0], both.encoder(input_ids=ids)[0])
    assert SentenceEncoder.from_pretrained(tmp_path, pooler="mean").encode(["the cat"]).shape == (1, 32)


def tiny_sizes():
    return {"vocab_size": tiny.VOCAB_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}


def test_other_models_are_loaded_as_by_automodel(tokenizer, tmp_path):
    for family in ("bert", "modernbert"):
        for task in ("encoder", "masked_lm"):
            folder = tmp_path / family / task
            tiny.model(family, task).save_pretrained(folder)
            assert type(load_encoder(folder)) is type(AutoModel.from_pretrained(folder))
    with pytest.raises(OSError, match="nowhere"):
        load_encoder(tmp_path / "nowhere")
