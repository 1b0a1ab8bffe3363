"""From a teacher to its vectors, and from these to a student, by the two commands; and what is refused."""

import json

import numpy as np
import pytest
import test_examples
import yaml
from sentence_models import sentence_transformer
from sentence_transformers import SentenceTransformer
from test_cli import refused

from retort.cli import main
from retort.data.readers import read_sts
from retort.evaluation.sentences import sts_spearman
from retort.recipes import parse_recipe

folder = test_examples.folder


@pytest.fixture(scope="module")
def vectors(folder, tokenizer):
    """A folder that `retort cache` has written: of a teacher with a Dense layer to 16 numbers."""
    teacher = sentence_transformer(folder / "bert", tokenizer, "cls, dense, tanh, normalize")
    teacher.save(str(folder / "dense"), create_model_card=False)
    files = ["--train_files", folder / "corpus.txt", "--max_length", "32"]
    command = ["cache", "--teacher", folder / "dense", "--prompt", "the ", *files, "--output_dir", folder / "vectors"]
    assert main(list(map(str, command))) == 0
    return folder / "vectors"


def recipe(folder, **changes):
    settings = {
        "teacher": {"vectors": str(folder / "vectors"), "name": "some/api"},
        "student": {"model": str(folder / "teacher"), "layers": [0, 3]},
        "data": {"train_files": [str(folder / "corpus.txt")], "max_length": 32},
        "arguments": {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "max_steps": 2},
        "stages": [
            {"name": "first", "trainer": "CKDTrainer", "arguments": {"queue_size": 16, "embedding_weight": 1}},
            {"name": "second", "arguments": {"embedding_weight": 1, "keep_projector": True}},
        ],
        "evaluation": {"sts_test": {"toy": str(folder / "sts.tsv")}},
        "output_dir": str(folder / "by-vectors"),
    }
    return settings | changes


def written(folder, **changes):
    (folder / "vectors.yaml").write_text(yaml.safe_dump(recipe(folder, **changes)))
    return str(folder / "vectors.yaml")


def test_a_recipe_learns_from_vectors_to_its_end_and_judges_what_it_saves(vectors, folder, capsys):
    assert main(["distill", written(folder)]) == 0
    printed = capsys.readouterr().out
    report = json.loads((folder / "by-vectors/report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["student, untrained", "student"]
    assert "agreement" not in printed
    stock = SentenceTransformer(str(folder / "by-vectors"), device="cpu")
    pairs = read_sts(str(folder / "sts.tsv"))
    sides = [stock.encode(list(pairs[side]), convert_to_tensor=True) for side in ("sentence1", "sentence2")]
    assert sides[0].shape[1] == 16  # the projector was kept
    assert report["rows"][1]["quality"]["toy Spearman"] == pytest.approx(sts_spearman(*sides, pairs["score"]), abs=1e-6)
    assert stock[0].auto_model.config.num_hidden_layers == 2
    card = (folder / "by-vectors/README.md").read_text()
    assert "some/api" in card
    assert main(["distill", written(folder)]) == 0
    assert "finished" in capsys.readouterr().out


def test_several_teachers_of_any_width_and_tokenizer_teach_one_student(vectors, folder):
    own = [*test_examples.SENTENCES, "a text that is not learnt from"]
    np.save(folder / "other.npy", np.random.default_rng(0).normal(size=(len(own), 10)))
    (folder / "other.txt").write_text("\n".join(own))
    both = {"vectors": [str(vectors), f"{folder}/other.npy+{folder}/other.txt"], "name": "two"}
    assert main(["distill", written(folder, teacher=both, output_dir=str(folder / "two"))]) == 0
    assert SentenceTransformer(str(folder / "two"), device="cpu").get_sentence_embedding_dimension() == 26


def test_vectors_of_the_command_are_those_of_sentence_transformers(vectors, folder):
    from retort.data import VECTORS, read_vectors

    rows = read_vectors(str(vectors))
    stock = SentenceTransformer(str(folder / "dense"), device="cpu")
    np.testing.assert_allclose(np.array(rows[VECTORS]), stock.encode(list(rows["text"]), prompt="the "), atol=1e-5)


@pytest.mark.promise(9)
def test_texts_and_evaluation_sets_without_vectors_are_refused_before_anything_is_written(vectors, folder, capsys):
    (folder / "more.txt").write_text("a text that no one has embedded\n")
    data = {"train_files": [str(folder / "corpus.txt"), str(folder / "more.txt")]}
    output = {"output_dir": str(folder / "refused")}
    line = refused(["distill", written(folder, data=data, **output)], capsys)
    assert "error: 1 of 49 texts have no vector in" in line
    assert "row 48, 'a text that no one has embedded'" in line
    judged = {"sts_dev": str(folder / "sts.tsv")}
    line = refused(
        ["distill", written(folder, evaluation=judged, **output), "arguments.eval_strategy=epoch", "--dry_run"], capsys
    )
    assert "of 20 texts have no vector in" in line
    absent = {"vectors": str(folder / "gone.npy") + "+gone.txt", "name": "x"}
    line = refused(["distill", written(folder, teacher=absent, **output)], capsys)
    assert "teacher.vectors: " in line
    assert not (folder / "refused").exists()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {"vectors": "x"}}, "a teacher with vectors needs a name"),
        ({"teacher": {"vectors": "x", "name": "n", "model": "y"}}, "a teacher needs one of"),
        (
            {"teacher": {"vectors": "x", "name": "n", "combine": "average"}},
            "combine: average is for the vectors of several",
        ),
        ({"student": {"layers": 2}}, "student: vectors have no layers"),
        (
            {"stages": [{"name": "only", "cache_teacher": True, "arguments": {"embedding_weight": 1}}]},
            "stages.only.cache_teacher: vectors are on disk already",
        ),
        ({"arguments": {"teacher_cache": "x"}}, "stages.first.teacher_cache: vectors are on disk already"),
        (
            {"data": {"task": "classification", "folders": "x"}, "evaluation": {}},
            "teacher.vectors: only sentence embeddings",
        ),
    ],
)
def test_recipes_that_vectors_do_not_serve_are_refused_when_they_are_read(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_recipe(recipe(tmp_path, **changes))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layers", "2"], "--layers is for outputs: name objectives as key=value"),
        (["embedding_weight=1", "--prompt", "a "], "--prompt is for vectors: leave out embedding_weight=1"),
        (["--prompt", "a", "--prompt_name", "b"], "not allowed with argument --prompt"),
        (["--prompt_name", "b"], "There is no prompt 'b', only: document, query"),
    ],
)
def test_flags_of_outputs_and_of_vectors_are_told_apart(more, message, folder, capsys):
    files = ["--teacher", folder / "teacher", "--train_files", folder / "corpus.txt", "--output_dir", folder / "no"]
    assert message in refused(["cache", *files, *more], capsys)
