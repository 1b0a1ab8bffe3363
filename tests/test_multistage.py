"""An assistant teaches its recurrent student, then the teacher translations: stages, kills and ranks."""

from dataclasses import replace

import multistage
import pytest
import tiny
import torch
from datasets import Dataset
from multistage import multistage_run, run_multistage, run_on_this_rank
from ranks import KILLED, run_on_ranks
from safetensors.torch import load_file

from retort import Stage
from retort.data import tokenize_groups

NAMES = [stage.name for stage in multistage.STAGES]


def weights(result) -> dict[str, torch.Tensor]:
    return load_file(result.folder / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a run that nobody interrupted."""
    return multistage_run(tmp_path_factory.mktemp("finished")).run()


def test_the_bottleneck_learns_the_assistant_s_embedding_layer_and_leaves_the_layers_alone(finished, tmp_path):
    run = multistage_run(tmp_path)
    before, after = run.student.state_dict(), weights(finished[0])
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {name for name in after if name.startswith("embeddings.")}
    assert run.plan[0].trainable == sum(before[name].numel() for name in changed)


def test_the_bottleneck_may_be_taught_token_by_token(tmp_path):
    by_token = {"hidden_weight": 1.0, "layer_map": "0:0", "max_steps": 20, "disable_dropout": True}
    (result,) = multistage_run(tmp_path, [replace(multistage.STAGES[0], arguments=by_token)]).run()
    losses = [entry["loss_hidden"] for entry in result.log_history if "loss_hidden" in entry]
    assert losses[-1] < losses[0] * 0.8


def test_each_stage_learns_from_the_one_it_names(finished):
    logged = [{key for entry in result.log_history for key in entry if key.startswith("loss_")} for result in finished]
    assert logged == [{"loss_embedding"}, {"loss_embedding"}, {"loss_mcl", "loss_source", "loss_target"}]


def test_another_assistant_makes_another_plan_of_the_stages_that_it_teaches(tmp_path):
    stages = [Stage("own", {"embedding_weight": 1.0}, data="texts"), *multistage.STAGES]
    ours = multistage_run(tmp_path, stages).plan
    others = multistage_run(tmp_path, stages, assistant=tiny.model("bert", layers=4, seed=9)).plan
    assert [a.key == b.key for a, b in zip(ours, others, strict=True)] == [True, False, False, False]


@pytest.mark.parametrize("teacher_tokenizer", [None, "bpe"])
def test_another_translation_makes_another_plan(teacher_tokenizer, tmp_path):
    theirs = teacher_tokenizer and tiny.tokenizer(teacher_tokenizer)
    keys = []
    for target in ("a cat", "a dog"):
        pairs = Dataset.from_dict({"source": ["the house", "a bird"], "target": ["the old tree", target]})
        rows = tokenize_groups(pairs, tiny.tokenizer(), teacher_tokenizer=theirs)
        keys.append(multistage_run(tmp_path, multistage.STAGES[2:], data={"translations": rows}).plan[0].key)
    assert keys[0] != keys[1]


@pytest.mark.promise(9)
def test_a_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'bottleneck' has teacher='assistant', but the run has none"):
        _ = multistage_run(tmp_path, assistant=None).plan
    with pytest.raises(ValueError, match=r"The stage '.*': teacher='somebody' is none of the choices 'teacher', 'a"):
        replace(multistage.STAGES[0], teacher="somebody")


@pytest.mark.promise(2)
@pytest.mark.parametrize(("stage", "step"), [("bottleneck", 3), ("recurrent", 1), ("recurrent", 3), ("mcl", 3)])
def test_killed_in_a_stage_and_run_again_it_ends_with_the_same_weights(stage, step, finished, tmp_path):
    assert run_on_ranks(run_multistage, 1, folder=str(tmp_path), kill_in=stage, step=step) == [KILLED]
    done = [planned.is_finished for planned in multistage_run(tmp_path).plan]
    assert done == [NAMES.index(name) < NAMES.index(stage) for name in NAMES]
    for result, whole in zip(multistage_run(tmp_path).run(), finished, strict=True):
        ours, theirs = weights(result), weights(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), result.name


@pytest.fixture(scope="module")
def on_one_rank(tmp_path_factory):
    """The weights after each stage of a run on one rank, by the name of its folder without the key."""
    folder = tmp_path_factory.mktemp("one-rank")
    assert run_on_ranks(run_on_this_rank, 1, folder=str(folder)) == [0]
    return by_stage(folder)


def by_stage(folder) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name[:-9]: load_file(path) for path in folder.glob("0*/model.safetensors")}


@pytest.mark.promise(3)
@pytest.mark.parametrize("zero", [0, 2, 3], ids=["DDP", "ZeRO-2", "ZeRO-3"])
def test_two_ranks_go_through_the_stages_as_one_does(zero, on_one_rank, tmp_path):
    common = {"folder": str(tmp_path), "zero": zero, "per_device_train_batch_size": 4}
    assert run_on_ranks(run_on_this_rank, 2, **common) == [0, 0]
    found = by_stage(tmp_path)
    assert found.keys() == on_one_rank.keys() == {f"0{index + 1}-{name}" for index, name in enumerate(NAMES)}
    for stage, state in on_one_rank.items():
        for name, tensor in state.items():
            torch.testing.assert_close(found[stage][name], tensor, rtol=1e-3, atol=1e-4, msg=f"{stage}: {name}")
