"""The student that stages end with: the best on dev, in a folder and on the Hub, without how it was made."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import staged
from hub_server import USER, LocalHub
from processes import run
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from retort import Stage
from retort.modeling.encoding import OutputRequest
from retort.trainers import StageResult, best_stage, publish, push_student
from retort.trainers.checks import check_sharding

TAGGER = f"{USER}/tagger"


def result(name: str, **scores: float) -> StageResult:
    return StageResult(name, Path(name), scores, 1, (), {})


def test_the_best_stage_has_the_highest_first_score_and_of_equals_the_last_wins():
    stages = [result("a", f1=0.3, loss=9.0), result("b", f1=0.5), result("c", f1=0.5), result("d", f1=0.4)]
    assert best_stage(stages).name == "c"
    assert best_stage([result("a"), result("b")]).name == "b"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of stages whose second scored best."""
    folder = tmp_path_factory.mktemp("stages")
    scores = iter((0.1, 0.9, 0.4))
    stages = [
        Stage("features", {"features_weight": 1.0}, data="transfer"),
        Stage("logits", {"logits_weight": 1.0}, data="transfer"),
        Stage("labels", {"label_weight": 1.0}),
    ]
    return staged.staged_run(folder, stages, score=lambda student: {"f1": next(scores)}).run()


def test_the_best_stage_s_student_is_published_with_a_card_of_the_stages_it_went_through(results, tmp_path):
    (tmp_path / "mine.txt").write_text("stays")
    publish(results, tmp_path, summary="A tagger.", results="| F1 |\n|---|\n| 0.9 |", measured="On nothing.")
    found, best = (load_file(folder / "model.safetensors") for folder in (tmp_path, results[1].folder))
    assert all((found[name] == tensor).all() for name, tensor in best.items())
    assert AutoModelForTokenClassification.from_pretrained(tmp_path).classifier.weight.shape == (3, 16)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "mine.txt"} <= files
    assert not files & {"stage.json", "heads.safetensors"}
    card = (tmp_path / "README.md").read_text()
    for told in (
        "A tagger.",
        "features: distance of the classifiers' inputs",
        "logits: distance of logits",
        "On nothing.",
    ):
        assert told in card
    assert "labels: task labels" not in card


def test_what_a_user_added_to_the_card_is_kept_if_nothing_was_trained_anew(results, tmp_path):
    publish(results, tmp_path, keep_card=True)
    card = tmp_path / "README.md"
    written = card.read_text()
    card.write_text(f"{written}\nBy us.\n")
    publish(results, tmp_path, keep_card=True)
    assert card.read_text() == f"{written}\nBy us.\n"
    publish(results, tmp_path)
    assert card.read_text() == written


def push(folder: str) -> None:
    """For a process that takes the local server for the Hub."""
    print(push_student(folder, TAGGER))


@pytest.mark.promise(7)
def test_what_is_pushed_is_the_student_alone(results, tmp_path):
    publish(results, tmp_path)
    (tmp_path / "stages/01-features").mkdir(parents=True)
    (tmp_path / "stages/01-features/model.safetensors").write_text("private")
    (tmp_path / "optimizer.pt").write_text("a pickle")
    with LocalHub() as hub:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import test_staged_publish as t; t.push(sys.argv[2])"
        printed = run([sys.executable, "-c", code, Path(__file__).parent, tmp_path], hub.environment(tmp_path / "home"))
        pushed = set(hub.files(TAGGER)) - {".gitattributes"}
        card = hub.files(TAGGER)["README.md"]
    assert f'model="{TAGGER}"' in getattr(card, "content", card).decode()
    assert TAGGER in printed
    assert pushed == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("metadata", ["", "---\ntags: [retort]\n---\n"])
def test_only_the_usage_example_of_retorts_card_is_rewritten_before_it_is_pushed(metadata, tmp_path, monkeypatch):
    class Api:
        create_repo = staticmethod(lambda repo_id, **_: SimpleNamespace(repo_id=repo_id))
        upload_folder = staticmethod(lambda **_: SimpleNamespace(commit_url="https://hub"))

    monkeypatch.setattr("retort.trainers.stages.results.HfApi", Api)
    push_student(tmp_path, TAGGER)  # without a README.md
    card = tmp_path / "README.md"
    card.write_text(f'{metadata}pipeline(model="before")\n')
    push_student(tmp_path, TAGGER)
    assert card.read_text() == f'{metadata}pipeline(model="{TAGGER if metadata else "before"}")\n'


def test_attention_maps_are_compared_in_a_stage_of_their_own(tmp_path):
    stages = [
        Stage("attention", {"attention_weight": 1.0, "hidden_weight": 1.0}, data="transfer"),
        Stage("logits", {"logits_weight": 1.0}, data="transfer"),
    ]
    run_of = staged.staged_run(tmp_path, stages)
    run_of.teacher.save_pretrained(tmp_path / "teacher")
    run_of = staged.staged_run(tmp_path, stages, teacher=str(tmp_path / "teacher"))
    first, second = run_of.run()
    assert first.log_history[0]["loss_attention"] > 0
    assert "loss_attention" not in second.log_history[0]


@pytest.mark.promise(9)
def test_what_runs_in_vain_is_refused_under_zero_3():
    def objective(**request):
        return SimpleNamespace(student_request=lambda: OutputRequest(**request))

    args = SimpleNamespace(runs_under_zero3=True, shard_teacher=False)
    check_sharding([objective(features=True), objective(logits=True)], args, 2)
    with pytest.raises(
        ValueError, match=r"Under ZeRO-3, features_weight also needs logits_weight or label_weight.*layer_map='last'"
    ):
        check_sharding([objective(features=True)], args, 2)
    check_sharding([objective(pooler="mean_first"), objective(hidden_states=frozenset({2}))], args, 2)
    with pytest.raises(ValueError, match=r"the student's layers above 0, which ZeRO-3 does not allow.*under ZeRO-2"):
        check_sharding([objective(pooler="mean_first")], args, 2)
    check_sharding([objective(pooler="mean_first")], SimpleNamespace(runs_under_zero3=False, shard_teacher=False), 2)
