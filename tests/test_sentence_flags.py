"""Models and files named on the command line: how a model pools, and what a file is called."""

import importlib

import pytest
import tiny
import torch
from test_examples import EXAMPLES

from retort import DistillTrainingArguments, shrink
from retort.commands import named_file
from retort.recipes.sentences import SentenceRecipe, layers_to_keep, load_model
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
def poolers(tmp_path):
    """A model's pooler, and the two of a run, by the flags given."""

    def chosen(source, **flags):
        args = DistillTrainingArguments(str(tmp_path), use_cpu=True, report_to=[], **flags)
        return str(load_model(source, 16, args).modules.pooling), *args.poolers

    return chosen


@pytest.mark.parametrize("flag", ["pooler", "teacher_pooler"])
def test_a_plain_encoder_pools_as_either_flag_says(flag, plain, poolers):
    assert poolers(plain) == ("mean",) * 3
    assert poolers(plain, **{flag: "cls"}) == ("cls",) * 3


def test_a_sentence_transformer_pools_as_it_says(plain, poolers):
    save_sentence_transformer(plain, tiny.surrounding(pooler="cls_before_pooler", max_length=16, normalize=True))
    assert poolers(plain) == ("cls_before_pooler",) * 3


@pytest.mark.promise(9)
@pytest.mark.parametrize("flag", ["pooler", "teacher_pooler"])
def test_another_pooler_than_its_own_is_refused(flag, says_mean, poolers):
    with pytest.raises(SystemExit, match=r"model pools by 'mean', but .*pooler 'cls' was asked for"):
        poolers(says_mean, **{flag: "cls"})


@pytest.mark.promise(9)
def test_two_poolers_are_refused(plain, poolers):
    with pytest.raises(SystemExit, match=r"pools by 'mean_last_two', but --pooler 'cls'"):
        poolers(plain, pooler="cls", teacher_pooler="mean_last_two")


@pytest.mark.parametrize("flag", ["pooler", "teacher_pooler"])
def test_models_of_a_stage_are_judged_by_the_pooler_they_learn_with(flag, plain, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    script = importlib.import_module("run_multistage")
    options = script.StageArguments("recurrent", str(plain), parallel_files=["unread.tsv"], max_length=16)
    settings = {"output_dir": str(tmp_path / "out"), flag: "cls"}
    work = SentenceRecipe(script.recipe_of(script.STAGES["recurrent"], options, settings))
    assert str(work.teacher_model.modules.pooling) == "cls"
    assert str(work.as_sentence_model(plain).modules.pooling) == "cls"


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
