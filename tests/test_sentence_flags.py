"""Models and files named on the command line: how a model pools, and what a file is called."""

import pytest
import tiny
import torch
from datasets import Dataset
from scipy.stats import spearmanr

from retort import DistillTrainer, SentenceEncoder, score_sts, shrink, tokenize
from retort.commands import named_file
from retort.commands.cache import layers_to_keep
from retort.recipes import parse_recipe
from retort.recipes.sentences import SentenceRecipe
from retort.trainers.saving import save_sentence_transformer


@pytest.fixture
def plain(tmp_path, tokenizer):
    """An encoder that doesn't say how it pools."""
    tiny.model("bert").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def says_mean(plain):
    """One that does."""
    save_sentence_transformer(plain, tiny.surrounding(pooler="mean", max_length=16, normalize=True))
    return plain


@pytest.fixture
def learnt(tmp_path):
    """How the student of a run is exported and trained, and how its teacher pools, by the flags given."""

    def poolers(source, **flags):
        args = tiny.arguments(tmp_path / "run", embedding_weight=1.0, **flags)
        teacher = SentenceEncoder.from_pretrained(source, pooler=args.pooler, max_length=16)
        rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), teacher.tokenizer)
        student = teacher.with_model(shrink(teacher.model, layers=1))
        trainer = DistillTrainer(student, str(source), args, train_dataset=rows, processing_class=teacher.tokenizer)
        (objective,) = trainer.objectives
        theirs = objective.teacher_request().pooler
        return str(student.modules.pooling), str(trainer.model.pooling), str(getattr(theirs, "pooling", theirs))

    return poolers


@pytest.mark.parametrize("pooler", ["mean", "cls"])
def test_a_plain_encoder_pools_as_the_flag_says(pooler, plain, learnt):
    assert learnt(plain, pooler=pooler) == (pooler,) * 3


def test_a_sentence_transformer_pools_as_it_says(plain):
    save_sentence_transformer(plain, tiny.surrounding(pooler="cls_before_pooler", max_length=16, normalize=True))
    encoder = SentenceEncoder.from_pretrained(plain, pooler="mean", max_length=8)
    assert (str(encoder.modules.pooling), encoder.max_length) == ("cls_before_pooler", 8)
    assert SentenceEncoder.from_pretrained(plain, max_length=64).max_length == 16


def test_an_encoder_with_a_pooler_makes_embeddings_of_unit_length(plain):
    encoder = SentenceEncoder.from_pretrained(plain, pooler="cls", max_length=8)
    texts = tiny.sentences(5)
    states = SentenceEncoder.with_pooler(plain, "cls", max_length=8).encode(texts)
    torch.testing.assert_close(encoder.encode(texts), torch.nn.functional.normalize(states, dim=-1))


@pytest.mark.promise(9)
def test_an_encoder_that_does_not_say_how_it_pools_is_refused_without_a_pooler(plain):
    with pytest.raises(ValueError, match=r"has no modules.json.*from_pretrained\(source, pooler='mean'\)"):
        SentenceEncoder.from_pretrained(plain)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("pooler", "the student pools by 'mean'. Leave pooler out"),
        ("teacher_pooler", "pool by 'mean'. Leave teacher_pooler out"),
    ],
)
def test_another_pooler_than_its_own_is_refused(flag, message, says_mean, learnt):
    with pytest.raises(ValueError, match=message):
        learnt(says_mean, **{flag: "cls"})


@pytest.mark.parametrize("flag", ["pooler", "teacher_pooler"])
def test_models_of_a_recipe_are_judged_by_the_pooler_they_learn_with(flag, plain, tmp_path):
    recipe = {
        "teacher": str(plain),
        "student": {"layers": 1},
        "data": {"train_files": ["unread.txt"], "max_length": 16},
        "arguments": {flag: "cls"},
        "stages": [{"name": "embeddings", "arguments": {"embedding_weight": 1}}],
        "output_dir": str(tmp_path / "out"),
    }
    work = SentenceRecipe(parse_recipe(recipe))
    assert str(work.teacher_model.modules.pooling) == "cls"
    assert str(work.as_sentence_model(plain).modules.pooling) == "cls"


def test_the_score_on_sts_is_the_rank_correlation_of_cosines(says_mean):
    encoder = SentenceEncoder.from_pretrained(says_mean)
    first, second = tiny.sentences(9, seed=1), tiny.sentences(9, seed=2)
    scores = [float(row % 4) for row in range(9)]
    cosines = [
        float(a @ b) for a, b in zip(encoder.encode(first).double(), encoder.encode(second).double(), strict=True)
    ]
    pairs = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})
    assert score_sts(encoder, pairs) == {"sts": pytest.approx(spearmanr(cosines, scores).statistic)}


@pytest.mark.parametrize(
    ("given", "found"),
    [("en=sts/en.tsv", ("en", "sts/en.tsv")), ("sts/en.tsv", ("en", "sts/en.tsv")), ("=en.tsv", ("en", "en.tsv"))],
)
def test_a_file_goes_by_the_name_given_or_its_own(given, found):
    assert named_file(given) == found


@pytest.mark.promise(9)
@pytest.mark.parametrize("given", ["en=", ""])
def test_a_name_without_a_file_is_refused(given):
    with pytest.raises(SystemExit, match=f"'{given}' names no file"):
        named_file(given)


@pytest.mark.parametrize(
    ("flag", "kept"), [([3], [0, 2, 5]), ([0, 4], [0, 4]), ([1, 3, 2], [1, 3, 2]), (None, [0, 2, 5])]
)
def test_one_number_is_how_many_layers_and_several_are_which(flag, kept):
    teacher = tiny.model("bert", layers=6)
    student = shrink(teacher, layers=layers_to_keep(flag, teacher))
    ours, theirs = student.encoder.layer, teacher.encoder.layer
    assert len(ours) == len(kept)
    for mine, index in zip(ours, kept, strict=True):
        assert torch.equal(mine.output.dense.weight, theirs[index].output.dense.weight)


@pytest.mark.promise(9)
@pytest.mark.parametrize("flag", [[0], [9], [0, 9]])
def test_layers_that_a_teacher_lacks_are_refused(flag):
    teacher = tiny.model("bert", layers=6)
    with pytest.raises(ValueError, match="layers"):
        shrink(teacher, layers=layers_to_keep(flag, teacher))
