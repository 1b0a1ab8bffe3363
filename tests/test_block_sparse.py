"""BigBird's block-sparse attention, whose outputs depend on the batch and on earlier ones."""

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import BigBirdConfig, BigBirdForSequenceClassification, BigBirdModel

from retort import DistillTrainer, shrink, tokenize
from retort.modeling.encoding import SentenceEncoder
from retort.trainers.teachers import score_groups, write_vectors

SPARSE = r"attention_type='block_sparse'.* So it can't be {}\. .*attention_type='original_full'"


def build(architecture=BigBirdModel, attention="block_sparse", **extra):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    extra = {"block_size": 4, "num_random_blocks": 1, "attention_type": attention, "pad_token_id": 0} | extra
    config = BigBirdConfig(vocab_size=tiny.VOCAB_SIZE, max_position_embeddings=66, **sizes, **extra)
    return architecture(config).eval()


def trainer_of(tmp_path, student, teacher):
    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    args = tiny.arguments(tmp_path / "run", embedding_weight=1.0, save_strategy="no", max_steps=1)
    return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(9)
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_block_sparse_teacher_is_refused(place, tmp_path):
    teacher = build()
    if place == "folder":
        teacher.save_pretrained(tmp_path / "teacher")
        teacher = str(tmp_path / "teacher")
    with pytest.raises(ValueError, match=SPARSE.format("a teacher")):
        trainer_of(tmp_path, tiny.model(), teacher)


@pytest.mark.promise(9)
def test_a_block_sparse_student_is_refused(tmp_path):
    with pytest.raises(ValueError, match=SPARSE.format("a student")):
        trainer_of(tmp_path, build(), tiny.model())


@pytest.mark.promise(9)
def test_shrink_refuses_it_before_it_runs():
    teacher = build()
    with pytest.raises(ValueError, match=SPARSE.format("a teacher of shrink")):
        shrink(teacher, layers=2)
    assert teacher.attention_type == "block_sparse"


@pytest.mark.promise(9)
def test_vectors_and_scores_of_a_block_sparse_model_are_refused(tmp_path):
    encoder = SentenceEncoder(build(), tiny.tokenizer(), tiny.surrounding())
    with pytest.raises(ValueError, match=SPARSE.format("a teacher")):
        write_vectors(encoder, ["a cat"], tmp_path / "vectors")
    groups = Dataset.from_dict({"query": ["a cat"], "documents": [["the dog", "a bird"]]})
    reranker = build(BigBirdForSequenceClassification, num_labels=1)
    with pytest.raises(ValueError, match=SPARSE.format("a teacher")):
        score_groups(groups, reranker, tmp_path / "scores", tokenizer=tiny.tokenizer())
    assert not (tmp_path / "vectors").exists()


def test_a_model_that_went_over_to_full_attention_is_still_refused():
    """Its folder would be block-sparse again."""
    teacher = build()
    with torch.no_grad():
        teacher(torch.tensor([[2, 7, 3]]))
    assert teacher.attention_type == "original_full"
    with pytest.raises(ValueError, match="block_sparse"):
        shrink(teacher, layers=2)


def test_the_way_out_is_one(tmp_path):
    build().save_pretrained(tmp_path / "teacher")
    teacher = BigBirdModel.from_pretrained(tmp_path / "teacher", attention_type="original_full")
    trainer = trainer_of(tmp_path, shrink(teacher, layers=2), teacher)
    assert trainer.train().training_loss > 0
