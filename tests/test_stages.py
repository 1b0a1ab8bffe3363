"""Stages: what they unfold into, what a plan says, and that kills and edits cost no more than they must."""

import shutil
from dataclasses import fields, replace

import pytest
import staged
import tiny
import torch
from ranks import KILLED, run_on_ranks
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, TrainerCallback

from retort import (
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    MCLTrainingArguments,
    Stage,
    StagedRun,
    VocabReducedMLMTrainingArguments,
)
from retort.evaluation.report.report import loss_history
from retort.trainers import plan_table
from retort.trainers.arguments.keys import CHANGE_NO_WEIGHTS, CHOOSING
from retort.trainers.saving import DamagedFilesError
from retort.trainers.stages import StageResult, best_stage
from retort.trainers.stages.stage import unfold

NAMES = [
    "features-rows-0-24",
    "features-rows-24-40",
    "logits-head",
    "logits-projector",
    "logits-encoder",
    "labels",
]
GROUPS = ("head", "projector", "layer.1", "layer.0", "embeddings")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    results = staged.staged_run(folder).run()
    return folder, results


# --- Unfolding and planning -------------------------------------------------------------------------------------------


def test_as_published_two_groups_and_a_classifier_make_seven_stages():
    declared = [
        Stage("features", {}),
        Stage("logits", {}, gradual_unfreezing="encoder"),
        Stage("labels", {}, gradual_unfreezing="encoder"),
    ]
    assert len([each for stage in declared for each in unfold(stage, GROUPS, 10)]) == 2 * 2 + 3


def test_every_chunk_comes_before_the_next_group():
    stage = Stage("logits", {}, gradual_unfreezing="layers", chunk_rows=4)
    unfolded = unfold(stage, ("head", "layer.0", "embeddings"), 10)
    assert [(each.trainable[-1], each.chunk) for each in unfolded] == [
        (group, chunk) for group in ("head", "layer.0", "embeddings") for chunk in ((0, 4), (4, 8), (8, 10))
    ]
    # The teacher's outputs for a chunk are the same whichever group learns from them.
    assert len({each.cache_name for each in unfolded}) == 3


def test_the_plan_tells_rows_and_parameters(tmp_path):
    run = staged.staged_run(tmp_path)
    assert [planned.stage.name for planned in run.plan] == NAMES
    assert [planned.rows for planned in run.plan] == [24, 16, 40, 40, 40, 32]
    student = run.student
    head = 32 * 3 + 3
    projector = 16 * 32 + 32
    total = sum(parameter.numel() for parameter in student.parameters())
    assert [planned.trainable for planned in run.plan] == [
        total - head,
        total - head,
        head,
        head + projector,
        total,
        head,
    ]
    assert {planned.parameters for planned in run.plan} == {total}
    table = plan_table(run.plan)
    assert table[3][:6] == ["logits-head", "to do", "transfer", "40", f"{head:,}", f"{total - head:,}"]


def test_frozen_words_are_not_counted_as_trainable(tmp_path):
    words = tiny.VOCAB_SIZE * 16
    free, frozen = (staged.staged_run(tmp_path, freeze_embeddings=freeze).plan for freeze in (False, True))
    assert [a.trainable - b.trainable for a, b in zip(free, frozen, strict=True)] == [words, words, 0, 0, words, 0]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([Stage("a", {}), Stage("a", {})], r"must differ, but they are \['a', 'a'\]"),
        ([Stage("a", {}, data="dev")], "trains on 'dev', but the datasets are train, transfer"),
        ([Stage("a", {}, trainable=("pooler",))], "no group of parameters called 'pooler'"),
    ],
)
def test_a_plan_that_can_not_be_run_is_refused(stages, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        _ = staged.staged_run(tmp_path, stages).plan


@pytest.mark.promise(9)
def test_a_stage_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="leave out trainable and lora"):
        Stage("a", {}, trainable=("head",), gradual_unfreezing="encoder")
    with pytest.raises(ValueError, match="chunk_rows=0: it must be at least 1"):
        Stage("a", {}, chunk_rows=0)


@pytest.mark.promise(9)
def test_groups_are_not_cached():
    with pytest.raises(ValueError, match="its trainer reads groups of texts"):
        Stage("pairs", {}, trainer=ContrastiveTrainer, cache_teacher=True)


@pytest.mark.promise(9)
def test_a_later_stage_is_refused_before_the_first_is_trained(tmp_path):
    wrong = Stage("hidden", {"hidden_weight": 1.0, "layer_map": "1:9"}, data="transfer", cache_teacher=True)
    run = staged.staged_run(tmp_path, [staged.STAGES[0], wrong])
    for attempt in (run.check, run.run):
        with pytest.raises(ValueError, match=r"The stage 'hidden': The layer map '1:9'"):
            attempt()
        assert not any(tmp_path.rglob("*.*"))


@pytest.mark.promise(9)
def test_stages_that_cache_different_outputs_in_one_folder_are_refused(tmp_path):
    shared, logits = {"teacher_cache": str(tmp_path / "cache"), "max_steps": 1}, {"logits_weight": 1.0}
    first = Stage("first", logits | shared, data="transfer")
    for other in (
        replace(first, name="other", data="train"),
        replace(first, name="other", arguments={"hidden_weight": 1.0} | shared),
    ):
        run = staged.staged_run(tmp_path / "run", [first, other])
        for attempt in (run.check, run.run):
            with pytest.raises(ValueError, match=r"The stage 'other': teacher_cache=.* is also that of .* 'first'"):
                attempt()
    with pytest.raises(
        ValueError, match="'chunks': it has chunk_rows, but teacher_cache names one folder for all chunks"
    ):
        staged.staged_run(tmp_path / "run", [replace(first, name="chunks", chunk_rows=24)]).check()
    staged.staged_run(tmp_path / "run", [first, replace(first, name="same", trainable=("head",))]).check()
    staged.staged_run(tmp_path / "run", [first]).run()
    with pytest.raises(
        ValueError, match=r"The stage 'other': The teacher cache .* was made from something else: .*text"
    ):
        staged.staged_run(tmp_path / "run", [replace(first, name="other", data="train")]).check()


@pytest.mark.promise(9)
def test_a_check_leaves_a_teacher_that_is_not_trained_yet_as_it_was(tmp_path):
    teacher, cache = tiny.model("bert", "token", layers=4), str(tmp_path / "cache")
    stages = [Stage("logits", {"logits_weight": 1.0, "teacher_cache": cache, "max_steps": 1}, data="transfer")]
    staged.staged_run(tmp_path / "run", stages, teacher=teacher).run()
    retrained = tiny.model("bert", "token", layers=4, seed=7)
    assert any(not torch.equal(a, b) for a, b in zip(teacher.parameters(), retrained.parameters(), strict=True))
    retrained.base_model.embeddings.requires_grad_(False)
    learning = [weight.requires_grad for weight in retrained.parameters()]
    staged.staged_run(tmp_path / "again", stages, teacher=retrained).check()  # its weights may become those of `cache`
    assert [weight.requires_grad for weight in retrained.parameters()] == learning
    with pytest.raises(ValueError, match="was made from something else: the teacher's weights"):
        staged.staged_run(tmp_path / "again", stages, teacher=retrained).run()


@pytest.mark.promise(9)
def test_a_cache_of_all_stages_is_refused_only_where_a_teacher_is_read(tmp_path):
    arguments = staged.ARGUMENTS | {"teacher_cache": str(tmp_path / "cache")}
    labels = Stage("labels", {"label_weight": 1.0}, chunk_rows=16)
    staged.staged_run(tmp_path / "run", [labels], arguments=arguments).check()
    cached = Stage("logits", {"logits_weight": 1.0}, cache_teacher=True)
    with pytest.raises(ValueError, match=r"'logits': it has both cache_teacher and teacher_cache="):
        staged.staged_run(tmp_path / "run", [labels, cached], arguments=arguments).check()
    pairs = Stage("pairs", {"contrastive_weight": 1.0}, trainer=ContrastiveTrainer)
    with pytest.raises(ValueError, match="'pairs': teacher_cache holds the outputs of one text in each row"):
        staged.staged_run(tmp_path / "run", [labels, pairs], arguments=arguments).check()


@pytest.mark.promise(9)
def test_a_stage_that_would_train_nothing_is_refused(tmp_path):
    wrong = Stage("labels", {"label_weight": 1.0}, trainable=())
    with pytest.raises(ValueError, match="The stage 'labels': Nothing would be trained"):
        staged.staged_run(tmp_path, [wrong]).check()


@pytest.mark.promise(9)
def test_a_check_finds_a_damaged_result(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "copy")
    run = staged.staged_run(tmp_path / "copy")
    weights_file = run.plan[0].folder / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:1000])
    with pytest.raises(DamagedFilesError):
        run.check()


def test_a_check_writes_nothing(tmp_path):
    staged.staged_run(tmp_path).check()
    assert not any(tmp_path.iterdir())


# --- What a run leaves behind -----------------------------------------------------------------------------------------


def weights(result):
    return load_file(result.folder / "model.safetensors")


def test_each_stage_changes_what_it_trains_and_nothing_else(finished):
    _, results = finished
    states = [load_file(result.folder / "heads.safetensors") | weights(result) for result in results]
    for name, before, after in zip(NAMES[1:], states, states[1:], strict=False):
        changed = {key for key in after if key in before and not torch.equal(before[key], after[key])}
        if name in ("logits-head", "labels"):
            assert {key.removeprefix("student.").rpartition(".")[0] for key in changed} <= {
                "classifier",
                "classifier.classifier",
            }
        if name == "logits-projector":
            assert not any(key.startswith("bert.") for key in changed)
        if name in ("features-rows-24-40", "logits-encoder"):
            assert any(key.startswith("bert.embeddings.word") for key in changed)
        assert changed, name


def test_early_stopping_ends_a_stage_and_the_best_model_stays(finished):
    _, results = finished
    assert results[-1].steps == 6
    losses = {entry["step"]: entry["eval_loss"] for entry in results[-1].log_history if "eval_loss" in entry}
    assert max(losses, key=losses.get) == 2
    found = evaluate_labels(results[-1].folder)
    assert found == pytest.approx(losses[2], rel=1e-4)
    assert found != pytest.approx(losses[6], rel=1e-3)


def evaluate_labels(folder):
    """The mean over all labelled tokens, as the trainer has it."""
    student = AutoModelForTokenClassification.from_pretrained(folder)
    rows = staged.rows(tiny.tokenizer(), 16, 2, True)
    total = count = 0
    for start in (0, 8):
        batch = [rows[start + index] for index in range(8)]
        width = max(row["length"] for row in batch)
        ids, labels = (
            torch.tensor([row[name] + [fill] * (width - row["length"]) for row in batch])
            for name, fill in (("input_ids", 0), ("labels", -100))
        )
        with torch.no_grad():
            loss = student(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        total, count = total + loss * (labels != -100).sum(), count + (labels != -100).sum()
    return (total / count).item()


@pytest.mark.promise(5)
def test_every_stage_leaves_a_stock_folder_with_the_folded_classifier(finished):
    for result in finished[1]:
        student, report = AutoModelForTokenClassification.from_pretrained(result.folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert student.classifier.weight.shape == (3, 16)


def test_caches_and_checkpoints_of_finished_stages_are_gone(finished):
    folder, _ = finished
    assert not list(folder.rglob("*.arrow"))
    assert not list(folder.rglob("checkpoint-*"))


def test_a_finished_run_does_nothing_more(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {planned.state for planned in staged.staged_run(folder).plan} == {"finished"}
    staged.staged_run(folder).run()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# --- Kills and edits --------------------------------------------------------------------------------------------------


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("features-rows-0-24", 3),
        ("features-rows-24-40", 1),
        ("logits-head", 4),
        ("logits-projector", 3),
        ("logits-encoder", 3),
        ("labels", 3),
        ("labels", 5),
    ],
)
def test_killed_in_a_stage_and_run_again_ends_with_the_same_weights(stage, step, finished, tmp_path):
    assert run_on_ranks(staged.run_staged, 1, folder=str(tmp_path), kill_in=stage, step=step) == [KILLED]
    states = [planned.state for planned in staged.staged_run(tmp_path).plan]
    assert states[: NAMES.index(stage)] == ["finished"] * NAMES.index(stage)
    assert states[NAMES.index(stage)] == ("interrupted" if step > 2 else "to do")
    assert run_on_ranks(staged.run_staged, 1, folder=str(tmp_path)) == [0]
    _assert_equal(tmp_path, finished[1])


@pytest.mark.promise(2)
def test_killed_between_a_stage_s_end_and_its_result_ends_with_the_same_weights(finished, tmp_path):
    # As if it had been killed while the last file was written: no result, and the checkpoints still there.
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    run = staged.staged_run(tmp_path)
    for planned in run.plan[-2:]:
        (planned.folder / "stage.json").unlink()
    run.run()
    _assert_equal(tmp_path, finished[1])


@pytest.mark.promise(2)
def test_early_stopping_that_was_killed_before_it_was_saved_stays_stopped(tmp_path):
    class Interrupt(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise KeyboardInterrupt

    labels = staged.STAGES[-1:]
    with pytest.raises(KeyboardInterrupt):
        staged.staged_run(tmp_path / "killed", labels, callbacks=[Interrupt()]).run()
    assert list((tmp_path / "killed").rglob("checkpoint-6"))
    (resumed,) = staged.staged_run(tmp_path / "killed", labels).run()
    (whole,) = staged.staged_run(tmp_path / "whole", labels).run()
    assert resumed.steps == whole.steps == 6
    assert _equal(weights(resumed), weights(whole))


@pytest.mark.promise(2)
def test_a_stage_that_ends_inside_an_epoch_is_not_given_another_step(tmp_path):
    class Interrupt(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    half = {"logits_weight": 1.0, "max_steps": -1, "num_train_epochs": 1.5, "lr_scheduler_type": "constant"}
    stages = [Stage("logits", half | {"save_steps": 3})]
    with pytest.raises(KeyboardInterrupt):
        staged.staged_run(tmp_path / "killed", stages, callbacks=[Interrupt()]).run()
    (resumed,) = staged.staged_run(tmp_path / "killed", stages).run()
    (whole,) = staged.staged_run(tmp_path / "whole", stages).run()
    assert resumed.steps == whole.steps == 6
    assert _equal(weights(resumed), weights(whole))


def test_what_a_kill_left_of_a_finished_stage_goes_with_the_next_run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    run = staged.staged_run(tmp_path)
    left = [
        run.plan[-1].folder / "checkpoint-6",  # killed before its stage was tidied up
        run.plan[0].folder / "_incomplete-0123456789ab",
        tmp_path / "_incomplete-ba9876543210",
        tmp_path / "_teacher" / "logits",
    ]
    for folder in left:
        folder.mkdir(parents=True)
    run.run()
    assert not any(folder.exists() for folder in left)
    assert not (tmp_path / "_teacher").exists()


def test_a_number_that_is_not_finite_in_the_log_ends_no_run(tmp_path):
    class Logs(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            state.log_history.append({"grad_norm": float("inf"), "loss": float("nan"), "step": state.global_step})

    stages = [Stage("labels", {"label_weight": 1.0, "max_steps": 2})]
    run = staged.staged_run(tmp_path, stages, callbacks=[Logs()], score=lambda student: {"f1": float("nan")})
    (result,) = run.run()
    assert {"grad_norm": None, "loss": None, "step": 1} in result.log_history
    assert result.scores == {"f1": None}
    assert loss_history(result.log_history)[0] == {"loss": None, "step": 1}


def test_a_stage_is_evaluated_on_several_sets_and_another_set_makes_another_plan(tmp_path):
    tokenizer = tiny.tokenizer()
    sets = {name: staged.rows(tokenizer, 8, seed, True) for seed, name in enumerate(("easy", "hard"), 3)}
    settings = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "eval_hard_loss"}
    stages = [Stage("labels", {"label_weight": 1.0, "load_best_model_at_end": True} | settings)]
    run = staged.staged_run(tmp_path, stages, eval_dataset=sets)
    (result,) = run.run()
    for name in sets:
        assert [entry["step"] for entry in result.log_history if f"eval_{name}_loss" in entry] == [2, 4]
    others = [sets | {"hard": sets["easy"]}, {"easy": sets["easy"]}, sets["easy"]]
    keys = {staged.staged_run(tmp_path, stages, eval_dataset=other).plan[0].key for other in others}
    assert len(keys | {run.plan[0].key}) == 4


def test_an_assistants_stage_is_evaluated_on_several_sets(tmp_path):
    tokenizer = tiny.tokenizer()
    sets = {name: staged.rows(tokenizer, 8, seed, True) for seed, name in enumerate(("easy", "hard"), 3)}
    stages = [Stage("logits", {"logits_weight": 1.0, "eval_strategy": "steps", "eval_steps": 4}, teacher="assistant")]
    teacher = tiny.model("bert", "token", layers=4)
    (result,) = staged.staged_run(tmp_path, stages, eval_dataset=sets, teacher=teacher, assistant=teacher).run()
    assert {"eval_easy_loss", "eval_hard_loss"} <= set().union(*result.log_history)


def test_scores_on_dev_are_in_the_log_of_trackers_too(tmp_path):
    class Tracker(TrainerCallback):
        """Keeps what wandb would be told."""

        def on_log(self, args, state, control, logs, **kwargs):
            told.append((state.global_step, dict(logs)))

    told, scores = [], iter([0.5, 0.75, 0.75])
    settings = {"eval_strategy": "steps", "eval_steps": 2}
    stages = [Stage("labels", {"label_weight": 1.0} | settings)]
    run = staged.staged_run(tmp_path, stages, callbacks=[Tracker()], score=lambda student: {"f1": next(scores)})
    (result,) = run.run()
    assert [(step, logs["eval_f1"]) for step, logs in told if "eval_f1" in logs] == [(2, 0.5), (4, 0.75)]
    assert [entry["eval_f1"] for entry in result.log_history if "eval_f1" in entry] == [0.5, 0.75]
    assert [step for step, logs in told if "eval_loss" in logs] == [2, 4]


def test_a_score_that_is_not_finite_is_not_the_best(finished):
    worse, better = (
        replace(result, scores={"f1": score}) for result, score in zip(finished[1][:2], (None, 0.1), strict=True)
    )
    assert best_stage([better, worse]) is better


# --- Keys -------------------------------------------------------------------------------------------------------------

ARGUMENTS_CLASSES = (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)

LEARNING = frozenset(
    """
    per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
    warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules
    gradient_accumulation_steps average_tokens_across_devices max_grad_norm label_smoothing_factor bf16 fp16 tf32
    torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config neftune_noise_alpha
    auto_find_batch_size full_determinism seed data_seed accelerator_config parallelism_config dataloader_drop_last
    remove_unused_columns label_names train_sampling_strategy length_column_name ignore_data_skip fsdp fsdp_config
    deepspeed

    teacher_dtype teacher_prompt_name teacher_cache_dtype teacher_weights embedding_weight embedding_loss
    similarity_weight logits_weight logits_loss temperature hidden_weight hidden_tokens hidden_loss features_weight
    layer_map attention_weight attention_loss relation_weight relation_heads relation_map label_weight pooler
    teacher_pooler projector fit_projector keep_projector truncate_dims quantization_aware disable_dropout
    attention_backend tokens_per_batch activation_checkpointing

    contrastive_weight contrastive_temperature learn_temperature both_directions student_negatives queue_size
    queue_dtype fill_queue mcl_weight source_weight target_weight

    margin_weight listwise_weight score_activation score_similarity score_temperature

    mlm_weight vocabulary_weight vocabulary_loss piece_logits map_logits vocabulary_tokens mask_share mask_smoothing
    whole_words teacher_reads contrast_weight contrast_space contrast_temperature negatives negative_count
    negatives_within unaligned_negatives curvature learn_curvature
    """.split()
)


def test_every_argument_is_said_to_change_weights_or_not_to():
    known = {each.name for arguments in ARGUMENTS_CLASSES for each in fields(arguments)}
    assert known == LEARNING | CHOOSING | CHANGE_NO_WEIGHTS
    assert not (LEARNING | CHOOSING) & CHANGE_NO_WEIGHTS


def folders(**arguments):
    """Of a run's stages, with further arguments."""
    run = staged.staged_run("nowhere", arguments=staged.ARGUMENTS | arguments)
    return [planned.folder.name for planned in run.plan]


def test_how_a_run_is_watched_and_kept_is_no_part_of_its_stages_keys():
    watched = {"logging_steps": 7, "save_total_limit": 3, "dataloader_num_workers": 2, "disable_tqdm": False}
    watched |= {"push_to_hub": True, "hub_model_id": "me/x", "report_to": "none", "run_name": "a", "log_level": "info"}
    assert folders(**watched) == folders()


@pytest.mark.parametrize("changed", [{"learning_rate": 1e-3}, {"seed": 1}, {"temperature": 3.0}, {"warmup_steps": 1}])
def test_what_changes_weights_is_part_of_every_stages_key(changed):
    assert not set(folders(**changed)) & set(folders())


def test_when_models_are_evaluated_counts_where_the_best_one_is_taken():
    changed = [a != b for a, b in zip(folders(), folders(eval_delay=1, save_steps=4), strict=True)]
    assert changed == [False] * 5 + [True]  # only the last stage loads its best model


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["../../out", "/abs", "..", ".", "", "a/b", "a\\b", "a\0b"])
def test_the_name_of_a_stage_does_not_leave_its_folder(name):
    with pytest.raises(ValueError, match=r"A stage is called .* a folder is named after it"):
        Stage(name, {})


# --- Edits ------------------------------------------------------------------------------------------------------------


def test_editing_a_stage_runs_it_and_its_successors_anew(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    killed = next(tmp_path.glob("03-logits-head-*"))  # as if, with the settings before the edit
    (killed / "stage.json").unlink()
    (killed / "checkpoint-2").mkdir()
    (killed / "checkpoint-2/trainer_state.json").write_text("{}")
    stages = list(staged.STAGES)
    stages[1] = replace(stages[1], arguments={"logits_weight": 1.0, "learning_rate": 1e-3})
    run = staged.staged_run(tmp_path, stages)
    assert [planned.state for planned in run.plan] == ["finished"] * 2 + ["to do"] * 4
    kept = [planned.folder for planned in run.plan[:2]]
    before = [(folder / "stage.json").stat().st_mtime_ns for folder in kept]
    results = run.run()
    assert [(folder / "stage.json").stat().st_mtime_ns for folder in kept] == before
    assert not _equal(weights(results[-1]), weights(finished[1][-1]))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Not used: ")]
    assert len(told) == 1
    assert f"{killed}. It has checkpoints of this stage with other settings or data." in told[0]
    states = [planned.state for planned in staged.staged_run(tmp_path).plan]
    assert states == ["finished"] * 2 + ["interrupted"] + ["finished"] * 3


@pytest.mark.parametrize("changed", ["data", "eval_dataset", "arguments"])
def test_other_data_or_arguments_make_another_plan(changed, finished):
    tokenizer = tiny.tokenizer()
    other = {
        "data": {
            "train": staged.rows(tokenizer, 32, 9, True),
            "transfer": staged.rows(tokenizer, 40, 1, False),
        },
        "eval_dataset": staged.rows(tokenizer, 16, 9, True),
        "arguments": staged.ARGUMENTS | {"seed": 7},
    }
    states = [planned.state for planned in staged.staged_run(finished[0], **{changed: other[changed]}).plan]
    untouched = 5 if changed == "data" else 0  # only the last stage reads what was changed there
    assert states == ["finished"] * untouched + ["to do"] * (6 - untouched)


# --- Several ranks ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_one_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_rank")
    assert run_on_ranks(staged.run_on_this_rank, 1, folder=str(folder)) == [0]
    return stages_of(folder)


def stages_of(folder):
    """Stage's number -> its student's weights, and its score as one of them."""
    files = sorted(folder.glob("*/model.safetensors"))
    scores = [StageResult.read(path.parent, check=False).scores["mean_logit"] for path in files]
    return {
        path.parent.name[:2]: load_file(path) | {"score": torch.tensor(score)}
        for path, score in zip(files, scores, strict=True)
    }


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    "sharding", [{}, {"zero": 2}, {"zero": 3}, {"fsdp": True}], ids=["DDP", "ZeRO-2", "ZeRO-3", "FSDP"]
)
def test_two_ranks_go_through_the_stages_as_one_does(sharding, on_one_rank, tmp_path):
    # ZeRO-3 can't train features alone (see `check_sharding`), so every run here has logits beside them.
    common = {"folder": str(tmp_path), "per_device_train_batch_size": 4, **sharding}
    assert run_on_ranks(staged.run_on_this_rank, 2, **common) == [0, 0]
    found = stages_of(tmp_path)
    assert found.keys() == on_one_rank.keys() == {f"0{index}" for index in range(1, 7)}
    for stage, state in on_one_rank.items():
        for name, tensor in state.items():
            torch.testing.assert_close(found[stage][name], tensor, rtol=1e-3, atol=1e-4, msg=f"{stage}: {name}")


# --- The teacher's own fine-tuning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_alpha": 8}], ids=["whole", "LoRA"])
def test_labels_are_learnt_without_a_teacher_whole_or_by_adapters(lora, tmp_path):
    tokenizer = tiny.tokenizer()
    model = tiny.model("bert", "token")
    arguments = staged.ARGUMENTS | {"max_steps": 30, "label_weight": 1.0, "learning_rate": 1e-2}
    run = StagedRun(
        [Stage("fine-tuning", arguments, lora=lora)],
        model,
        folder=tmp_path,
        data={"train": staged.rows(tokenizer, 32, 0, True)},
        processing_class=tokenizer,
    )
    (result,) = run.run()
    losses = [entry["loss"] for entry in result.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    tuned, report = AutoModelForTokenClassification.from_pretrained(result.folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    before, after = model.state_dict(), tuned.state_dict()
    key, query = (f"bert.encoder.layer.0.attention.self.{name}.weight" for name in ("key", "query"))
    assert torch.equal(before[key], after[key]) == (lora is not None)
    assert not torch.equal(before[query], after[query])
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


@pytest.mark.promise(2)
def test_adapters_that_were_interrupted_end_with_the_same_weights(tmp_path):
    stages = [Stage("fine-tuning", {"label_weight": 1.0}, lora={"r": 2})]
    (whole,) = staged.staged_run(tmp_path / "whole", stages).run()

    class Interrupt(staged.KillIn):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == self.step:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staged.staged_run(tmp_path / "killed", stages, callbacks=[Interrupt(None, 3)]).run()
    (resumed,) = staged.staged_run(tmp_path / "killed", stages).run()
    assert _equal(weights(whole), weights(resumed))


def _assert_equal(folder, expected):
    results = [planned.folder for planned in staged.staged_run(folder).plan]
    for found, result in zip(results, expected, strict=True):
        assert _equal(load_file(found / "model.safetensors"), weights(result)), result.name


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
