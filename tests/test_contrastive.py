"""Contrastive training on groups: readers, the loss against references, large batches, and the script."""

import logging

import pytest
import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from steps import gradient_of, step_of

from retort import ContrastiveTrainer, ContrastiveTrainingArguments
from retort.data import read_groups, tokenize_groups

TRIPLETS = {"anchor": ["a cat", "the dog"], "positive": ["the cat", "a dog"], "negative": ["a tree", "no dog"]}


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["sent0,sent1,hard_neg\n", "Anchor,positive,negative\n", ""])
def test_a_header_is_seen_and_is_no_row(header, tmp_path):
    (tmp_path / "nli.csv").write_text(header + 'a cat,the cat,a tree\nthe dog,a dog,"no, dog"\n')
    groups = read_groups([tmp_path / "nli.csv"])
    assert groups.to_dict() == TRIPLETS | {"negative": ["a tree", "no, dog"]}


def test_pairs_and_single_texts_are_groups_too(tmp_path):
    (tmp_path / "pairs.tsv").write_text('a "cat\tthe cat\n')
    (tmp_path / "texts.txt").write_text("a cat\nthe dog\n")
    assert read_groups([tmp_path / "pairs.tsv"]).to_dict() == {"anchor": ['a "cat'], "positive": ["the cat"]}
    assert read_groups([tmp_path / "texts.txt"]).to_dict() == {"anchor": ["a cat", "the dog"]}


@pytest.mark.promise(9)
@pytest.mark.parametrize("columns", [["a", "b", "c", "d"], ["a", "b", "b"], ["a", "a"], ["a", 1], [0, 0], [], "ab"])
@pytest.mark.parametrize("name", ["g.jsonl", "g.tsv"])
def test_columns_of_groups_are_named_once_and_are_three_at_most(name, columns, tmp_path):
    (tmp_path / "g.jsonl").write_text('{"a": "1", "b": "2", "c": "3", "d": "4"}\n')
    (tmp_path / "g.tsv").write_text("a\tb\tc\td\n1\t2\t3\t4\n")
    with pytest.raises(ValueError, match=r"columns=.*a group has 1 to 3 different columns"):
        read_groups([tmp_path / name], columns=columns)


def test_rows_with_an_empty_text_are_left_out_and_counted(tmp_path, caplog):
    (tmp_path / "pairs.tsv").write_text("a cat\tthe cat\na dog\t \n")
    with caplog.at_level(logging.WARNING, logger="retort"):
        assert len(read_groups([tmp_path / "pairs.tsv"])) == 1
    assert "1 of 2 rows hold an empty text" in caplog.text


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.tsv": "a\tb\tc\td\n"}, r"a\.tsv has 4 columns, but a group is an anchor"),
        (
            {"a.tsv": "a\tb\n", "b.txt": "a\n"},
            r"the same columns.*a\.tsv: anchor, positive; .*b\.txt",
        ),
        ({"a.tsv": "a\t \n"}, r"No row of .*a\.tsv holds text in every column"),
        ({"a.tsv": "a\tb\na\n"}, r"a\.tsv:2: this row has 1 columns, expected 2"),
    ],
)
def test_files_that_are_no_groups_are_refused(files, message, tmp_path):
    for name, contents in files.items():
        (tmp_path / name).write_text(contents)
    with pytest.raises(ValueError, match=message):
        read_groups([tmp_path / name for name in files])


def test_every_text_of_a_group_is_tokenised_by_itself(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize_groups(Dataset.from_dict(TRIPLETS), tokenizer, max_length=6)
    for row, *texts in zip(rows, *TRIPLETS.values(), strict=True):
        expected = [tokenizer(text, truncation=True, max_length=6)["input_ids"] for text in texts]
        assert row == {"members": expected, "length": sum(map(len, expected))}
    assert "of 6 texts were cut at 6 tokens" in caplog.text


# --- The trainer ------------------------------------------------------------------------------------------------------


def groups(tokenizer, count=32, members=3):
    texts = [tiny.sentences(count, seed=seed) for seed in range(members)]
    return tokenize_groups(Dataset.from_dict(dict(zip(TRIPLETS, texts, strict=False))), tokenizer)


def make_trainer(tmp_path, tokenizer, data, **settings):
    defaults = {"max_steps": 4, "learning_rate": 3e-3, "save_strategy": "no", "disable_dropout": True}
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **defaults | settings)
    model = tiny.model("bert")
    return ContrastiveTrainer(model, args=args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("attention_backend", ["auto", "padded"])
def test_the_loss_is_that_of_sentence_transformers(members, attention_backend, tokenizer, tmp_path):
    """Its own loss knows no copies of a text, so there are none here."""
    texts = [f"{' '.join(tiny.WORDS[i + 7 * n : i + 7 * n + 3])}" for n in range(members) for i in range(6)]
    assert len(set(texts)) == len(texts)
    columns = [texts[6 * n : 6 * n + 6] for n in range(members)]
    data = tokenize_groups(Dataset.from_dict(dict(zip(TRIPLETS, columns, strict=False))), tokenizer)
    settings = {"attention_backend": attention_backend, "contrastive_temperature": 0.05}
    trainer = make_trainer(tmp_path, tokenizer, data, **settings)
    (batch,), counts = step_of(trainer, range(6))
    ours = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    trainer.save_model()
    model = SentenceTransformer(str(tmp_path), device="cpu").eval()
    theirs = MultipleNegativesRankingLoss(model, scale=20.0)([model.preprocess(column) for column in columns], None)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)


def test_copies_of_a_text_are_no_negatives(tokenizer, tmp_path):
    """Anchor 0 occurs twice, with two positives; the positive of group 2 is also a hard negative of group 3."""
    data = Dataset.from_dict(
        {
            "anchor": ["a cat", "a cat", "the house", "a river"],
            "positive": ["the cat", "big cat", "old house", "the water"],
            "negative": ["a dog", "the bird", "a tree", "old house"],
        }
    )
    trainer = make_trainer(tmp_path, tokenizer, tokenize_groups(data, tokenizer))
    (batch,), counts = step_of(trainer, range(4))
    ours = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    with torch.no_grad():
        output = trainer.model(batch.student, batch.layout).encoder.embedding
    vectors = F.normalize(output, dim=-1)[batch.groups].double()
    expected = 0
    for i in range(4):
        keep = [j for j in range(4) if j == i or data["anchor"][j] != data["anchor"][i]]
        hard = [j for j in range(4) if data["negative"][j] != data["positive"][i]]
        keys = torch.cat([vectors[i, 1][None], vectors[[j for j in keep if j != i], 1], vectors[hard, 2]])
        expected += F.cross_entropy(keys @ vectors[i, 0] / 0.05, torch.tensor(0)).item() / 4
    assert ours.item() == pytest.approx(expected, rel=1e-4)


def test_micro_batches_have_the_gradient_of_one_large_batch(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, groups(tokenizer), learn_temperature=True)
    parts = gradient_of(trainer, range(5), range(5, 6), range(6, 12))
    torch.testing.assert_close(parts, gradient_of(trainer, range(12)), rtol=1e-4, atol=1e-5)


def test_a_single_text_meets_itself_under_another_dropout(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, groups(tokenizer, members=1), disable_dropout=False, max_steps=40)
    (batch,), _ = step_of(trainer, range(8))
    assert batch.groups.shape == (8, 2)
    trainer.model.train()
    with torch.no_grad():
        vectors = trainer.model(batch.student, batch.layout).encoder.embedding[batch.groups]
    assert not torch.allclose(vectors[:, 0], vectors[:, 1])
    trainer.train()
    losses = [entry["loss_positives"] for entry in trainer.state.log_history if "loss_positives" in entry]
    assert sum(losses[-8:]) < sum(losses[:8])
    assert {"alignment", "uniformity", "cosine_spread"} <= trainer.state.log_history[0].keys()


def test_evaluation_and_export(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, groups(tokenizer))
    assert trainer.evaluate()["eval_loss_positives"] > 0
    trainer.save_model()
    assert SentenceTransformer(str(tmp_path), device="cpu").encode(["a cat"]).shape == (1, 32)
    card = (tmp_path / "README.md").read_text()
    assert "layers of width 32, trained with retort" in card
    assert "gao2021simcse" in card


def test_a_teachers_objectives_can_be_added(tokenizer, tmp_path):
    data = groups(tokenizer)
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, max_steps=2, embedding_weight=1.0, save_strategy="no")
    teacher = tiny.model("bert", layers=4)
    trainer = ContrastiveTrainer(tiny.model("bert"), teacher, args, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert {"loss_positives", "loss_embedding"} <= trainer.state.log_history[0].keys()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("members", "settings", "message"),
    [
        (1, {}, "same text under another dropout"),
        (2, {"per_device_train_batch_size": 1}, "A step of a single pair has no negatives"),
        (2, {"contrastive_temperature": -1.0}, "tau divides the cosines"),
        (
            2,
            {"embedding_weight": 1.0, "teacher_cache": "c"},
            "one text in each row, but the rows of .* are groups of texts",
        ),
    ],
)
def test_what_can_not_be_learnt_from_is_refused(members, settings, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, tokenizer, groups(tokenizer, members=members), **settings).train()
