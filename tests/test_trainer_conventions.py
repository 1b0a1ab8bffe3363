"""What `transformers.Trainer` promises: each of its arguments has an effect with ours, or is refused by name."""

from dataclasses import MISSING, fields

import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from peft import IA3Config, LoraConfig, get_peft_model, inject_adapter_in_model
from steps import gradient_of
from transformers import TrainingArguments

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    DistillTrainingArguments,
    MCLTrainer,
    VocabReducedMLMTrainer,
    tokenize,
)
from retort.data import tokenize_groups, tokenize_spans
from retort.modeling.encoding import SentenceEncoder, SentenceModules
from retort.trainers.arguments.conventions import REFUSED


def rows(tokenizer, count=24, **columns):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(count)}), tokenizer)


def make_trainer(tmp_path, tokenizer, data=None, evaluated=None, kind=DistillTrainingArguments, **settings):
    args = tiny.arguments(tmp_path, kind, **{"embedding_weight": 1.0, "save_strategy": "no", "max_steps": 2} | settings)
    named = {"train_dataset": data, "eval_dataset": evaluated, "processing_class": tokenizer}
    return DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)


# --- The fields of TrainingArguments ----------------------------------------------------------------------------------

# Refused if set, by retort: a value, and what the message names.
REFUSED_VALUES = {
    "neftune_noise_alpha": 5.0,
    "bf16_full_eval": True,
    "fp16_full_eval": True,
    "include_for_metrics": ["inputs"],
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "label_names": ["gold"],
    "length_column_name": "size",
    "average_tokens_across_devices": False,
    "parallelism_config": object(),
    "hub_strategy": "checkpoint",  # and "all_checkpoints"
}
# Read by Trainer itself, in methods that none of our trainers replaces, in a run of two steps with an evaluation.
READ = """
    output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
    lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
    optim_target_modules gradient_accumulation_steps max_grad_norm bf16 fp16 activation_checkpointing torch_compile
    use_cache torch_empty_cache_steps auto_find_batch_size logging_strategy logging_steps logging_first_step
    log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen disable_tqdm report_to eval_strategy
    eval_steps eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches
    eval_use_gather_object eval_accumulation_steps batch_eval_metrics save_only_model save_strategy save_steps
    save_on_each_node save_total_limit enable_jit_checkpoint push_to_hub load_best_model_at_end
    metric_for_best_model ignore_data_skip restore_callback_states_from_checkpoint full_determinism seed data_seed
    accelerator_config dataloader_drop_last dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    remove_unused_columns train_sampling_strategy deepspeed debug skip_memory_metrics fsdp fsdp_config hub_model_id
""".split()
# Read in `TrainingArguments` alone, or only under a condition that such a run lacks.
CONDITIONAL = {
    "label_smoothing_factor": "label_weight",
    "tf32": "an accelerator",
    "activation_checkpointing_kwargs": "activation_checkpointing",
    "gradient_checkpointing": "the old name of activation_checkpointing",
    "gradient_checkpointing_kwargs": "the old name of activation_checkpointing_kwargs",
    "torch_compile_backend": "torch_compile",
    "torch_compile_mode": "torch_compile",
    "log_level": "one's own call of get_process_log_level",
    "log_level_replica": "one's own call of get_process_log_level",
    "run_name": "a tracker in report_to",
    "project": "a tracker in report_to",
    "trackio_space_id": "trackio in report_to",
    "trackio_bucket_id": "trackio in report_to",
    "trackio_static_space_id": "trackio in report_to",
    "hub_token": "push_to_hub",
    "hub_private_repo": "push_to_hub",
    "hub_always_push": "push_to_hub",
    "hub_revision": "push_to_hub",
    "greater_is_better": "metric_for_best_model",
    "use_cpu": "an accelerator",
    "ddp_find_unused_parameters": "several ranks",
    "ddp_bucket_cap_mb": "several ranks",
    "ddp_broadcast_buffers": "several ranks",
    "ddp_static_graph": "several ranks",
    "ddp_backend": "several ranks",
    "ddp_timeout": "several ranks",
    "local_rank": "several ranks",
    "do_train": "a script that reads it",
    "do_eval": "a script that reads it",
    "do_predict": "a script that reads it",
    "resume_from_checkpoint": "a script that reads it",
}


def test_every_training_argument_is_in_one_of_the_tables():
    """Fails when transformers adds an argument: find out what it does to a distillation."""
    tables = [set(REFUSED_VALUES), set(READ), set(CONDITIONAL)]
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert set().union(*tables) == {each.name for each in fields(TrainingArguments)}
    assert REFUSED.keys() <= REFUSED_VALUES.keys()


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", REFUSED_VALUES)
def test_arguments_without_an_effect_are_refused_by_name(name, tmp_path):
    with pytest.raises(ValueError, match=name):
        tiny.arguments(tmp_path, **{name: REFUSED_VALUES[name]})


def test_the_defaults_of_transformers_are_not_refused():
    for each in fields(TrainingArguments):
        if each.name in REFUSED:
            default = each.default_factory() if each.default is MISSING else each.default
            assert default in REFUSED[each.name][0], each.name


def test_the_others_are_read_in_a_run(tokenizer, tmp_path, monkeypatch):
    seen, plain = set(), object.__getattribute__

    def record(self, name):
        seen.add(name)
        return plain(self, name)

    data = rows(tokenizer)
    args = tiny.arguments(
        tmp_path, embedding_weight=1.0, max_steps=2, eval_strategy="steps", eval_steps=1, save_steps=1
    )
    monkeypatch.setattr(DistillTrainingArguments, "__getattribute__", record)
    trainer = DistillTrainer(
        tiny.model("bert"),
        tiny.model("bert", seed=1),
        args,
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
        compute_metrics=lambda found: {},
    )
    trainer.train()
    trainer.predict(data)
    monkeypatch.undo()
    assert not set(READ) - seen


@pytest.mark.parametrize(("kind", "backend"), [("non_padding", "runs"), ("non_padding", "padded"), ("all", "padded")])
def test_tokens_seen_are_counted(kind, backend, tokenizer, tmp_path):
    data = rows(tokenizer)
    settings = {"attention_backend": backend, "include_num_input_tokens_seen": kind, "max_steps": 3}
    trainer = make_trainer(tmp_path, tokenizer, data, **settings, train_sampling_strategy="sequential")
    trainer.train()
    parts = [data["length"][start : start + 8] for start in (0, 8, 16)]
    expected = sum(map(sum, parts)) if kind == "non_padding" else sum(8 * max(part) for part in parts)
    assert trainer.state.num_input_tokens_seen == expected


# --- What a trainer is given ------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ({"model": "bert-base-uncased"}, TypeError, r"got a str \('bert-base-uncased'\)\. Load it first"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "got a Linear"),
        ({"model_init": tiny.model}, ValueError, "model_init is not supported.*set_seed.*hyperparameter_search"),
        ({"compute_loss_func": print}, ValueError, "compute_loss_func is not supported"),
    ],
)
def test_what_is_no_student_or_would_be_ignored_is_refused(named, error, message, tokenizer, tmp_path):
    given = {"model": tiny.model("bert"), "teacher": "nowhere", "args": tiny.arguments(tmp_path, embedding_weight=1.0)}
    with pytest.raises(error, match=message):  # before the teacher is looked for
        DistillTrainer(**given | named)


@pytest.mark.promise(9)
def test_a_student_with_adapters_is_refused(tmp_path):
    student = get_peft_model(tiny.model("bert"), LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match=r"PeftModel.*merge_and_unload\(\)"):
        DistillTrainer(student, "nowhere", tiny.arguments(tmp_path, embedding_weight=1.0))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "adapt",
    [
        lambda model: inject_adapter_in_model(IA3Config(target_modules=["query"], feedforward_modules=[]), model),
        lambda model: model.add_adapter(LoraConfig(target_modules=["query"])),
        lambda model: get_peft_model(model, LoraConfig(target_modules=["query"])),
    ],
    ids=["injected", "added", "the base of a PeftModel"],
)
def test_a_stock_student_that_was_given_adapters_is_refused(adapt, tmp_path):
    student = tiny.model("bert")
    adapt(student)
    with pytest.raises(ValueError, match=r"adapters \(in encoder\.layer\.0\.attention\.self\.query\).*Stage\(lora"):
        DistillTrainer(student, "nowhere", tiny.arguments(tmp_path, embedding_weight=1.0))


@pytest.mark.promise(9)
def test_an_optimizer_that_lacks_the_heads_is_refused(tokenizer, tmp_path):
    student, args = tiny.model("bert", hidden=16), tiny.arguments(tmp_path, embedding_weight=1.0)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="doesn't hold the weights of the objectives embedding"):
        DistillTrainer(student, tiny.model("bert"), args, optimizers=(optimizer, None), processing_class=tokenizer)


def test_without_arguments_a_trainer_has_its_own_defaults(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student, data = tiny.model("bert"), rows(tokenizer)
    trainer = CKDTrainer(student, tiny.model("bert", seed=1), train_dataset=data, processing_class=tokenizer)
    assert trainer.args.contrastive_weight == 1
    with pytest.raises(ValueError, match="No objective: every weight is 0"):
        DistillTrainer(student, tiny.model("bert", seed=1), train_dataset=data, processing_class=tokenizer)


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize("where", ["training", "evaluation", "evaluation \\(two\\)"])
def test_all_datasets_go_through_the_same_checks(where, tokenizer, tmp_path):
    good, raw = rows(tokenizer), Dataset.from_dict({"text": tiny.sentences(8)})
    train = raw if where == "training" else good
    evaluated = raw if where == "evaluation" else {"one": good, "two": raw if "two" in where else good}
    with pytest.raises(ValueError, match=rf"The {where} rows: they hold text, but no input_ids. Call retort.tokenize"):
        make_trainer(tmp_path, tokenizer, train, evaluated)


@pytest.mark.promise(9)
def test_evaluation_rows_without_the_teachers_tokens_are_refused(tokenizer, tmp_path):
    other = tiny.tokenizer("bpe")
    text = Dataset.from_dict({"text": tiny.sentences(8)})
    train = tokenize(text, tokenizer, teacher_tokenizer=other)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    teacher = tiny.model("bert", vocab_size=200)
    named = {"train_dataset": train, "processing_class": tokenizer, "teacher_processing_class": other}
    with pytest.raises(ValueError, match=r"evaluation rows: .* the rows hold no teacher_input_ids"):
        DistillTrainer(tiny.model("bert"), teacher, args, eval_dataset=tokenize(text, tokenizer), **named)
    trainer = DistillTrainer(tiny.model("bert"), teacher, args, eval_dataset=train, **named)
    with pytest.raises(ValueError, match=r"evaluation rows: .* the rows hold no teacher_input_ids"):
        trainer.evaluate(tokenize(text, tokenizer))
    found = trainer.predict(tokenize(text, tokenizer))
    assert found.predictions.shape == (8, 32)
    assert "test_loss" not in found.metrics


@pytest.mark.promise(4)
@pytest.mark.parametrize("backend", ["runs", "padded"])
def test_rows_that_the_user_padded_have_the_loss_of_the_rows_without(backend, tokenizer, tmp_path):
    texts = tiny.sentences(24)
    padded = Dataset.from_dict(dict(tokenizer(texts, padding="max_length", max_length=40)))
    assert set(map(len, padded["input_ids"])) == {40}
    settings = {"attention_backend": backend, "hidden_weight": 1.0, "relation_weight": 1.0, "relation_heads": 4}
    trainers = [
        make_trainer(tmp_path, tokenizer, data, data, **settings, disable_dropout=True)
        for data in (padded, rows(tokenizer))
    ]
    losses = [trainer.evaluate()["eval_loss"] for trainer in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    gradients = [gradient_of(trainer, range(8)) for trainer in trainers]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_remainder_of_one_row_does_not_end_the_run(tokenizer, tmp_path):
    texts = {side: tiny.sentences(17, seed=seed) for seed, side in enumerate(("source", "target"))}
    settings = {"save_strategy": "no", "num_train_epochs": 1}
    runs = [
        (DistillTrainer, DistillTrainingArguments, rows(tokenizer, 17), {"similarity_weight": 1.0}),
        (CKDTrainer, CKDTrainingArguments, rows(tokenizer, 17), {"queue_size": 0}),
        (ContrastiveTrainer, ContrastiveTrainingArguments, tokenize_groups(Dataset.from_dict(texts), tokenizer), {}),
    ]
    for trainer_class, kind, data, objectives in runs:
        args = tiny.arguments(tmp_path, kind, **settings, **objectives)
        student, teacher = tiny.model("bert"), tiny.model("bert", seed=1)
        trainer = trainer_class(student, teacher, args, train_dataset=data, processing_class=tokenizer)
        trainer.train()
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert [entry["loss"] > 0 for entry in logged] == [True, True, False]
        name = f"loss_{trainer.objectives[0].name}"
        assert [entry[name] > 0 for entry in logged] == [True, True, False]


@pytest.mark.promise(9)
def test_similarities_of_single_rows_are_refused(tokenizer, tmp_path):
    settings = {"embedding_weight": 0.0, "similarity_weight": 1.0}
    with pytest.raises(ValueError, match="compares the rows of a step with one another, but a step has only one row"):
        make_trainer(tmp_path, tokenizer, rows(tokenizer), per_device_train_batch_size=1, **settings)
    with pytest.raises(ValueError, match="The evaluation rows: there is one"):
        make_trainer(tmp_path, tokenizer, rows(tokenizer), rows(tokenizer).select([0]), **settings)


# --- Streams ----------------------------------------------------------------------------------------------------------


def stream_of(data) -> IterableDataset:
    return data.to_iterable_dataset()


def streaming(kind, tmp_path, tokenizer, **settings):
    """A trainer of each kind whose training rows are a stream."""
    texts = {side: tiny.sentences(24, seed=seed) for seed, side in enumerate(("source", "target"))}
    student, teacher, named = tiny.model("bert"), tiny.model("bert", seed=1), {}
    if kind is VocabReducedMLMTrainer:
        student, teacher = tiny.model("bert", "masked_lm"), tiny.model("bert", "masked_lm", seed=1)
        other = tiny.tokenizer("wordpiece, other words")
        data = tokenize_spans(Dataset.from_dict({"text": texts["source"]}), tokenizer, teacher_tokenizer=other)
        settings, named = {"mask_smoothing": 0.0} | settings, {"teacher_processing_class": other}
    elif kind in (ContrastiveTrainer, MCLTrainer):
        data = tokenize_groups(Dataset.from_dict(texts), tokenizer, teacher_tokenizer=tokenizer)
    else:
        data = rows(tokenizer)
    settings = {"embedding_weight": 1.0} | settings if kind is DistillTrainer else settings
    args = tiny.arguments(tmp_path, kind.arguments_class, **{"max_steps": 4, "save_steps": 2} | settings)
    return kind(student, teacher, args, train_dataset=stream_of(data), processing_class=tokenizer, **named)


KINDS = [DistillTrainer, CKDTrainer, ContrastiveTrainer, MCLTrainer, VocabReducedMLMTrainer]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_trained_on_saved_and_resumed(kind, tokenizer, tmp_path):
    whole = streaming(kind, tmp_path / "whole", tokenizer)
    whole.train()
    whole.save_model()
    assert (tmp_path / "whole" / "model.safetensors").exists()
    resumed = streaming(kind, tmp_path / "whole", tokenizer)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (DistillTrainer, {"teacher_cache": "cache"}, "teacher_cache needs a datasets.Dataset.* is a IterableDataset"),
        (CKDTrainer, {"fill_queue": True}, "fill_queue samples from all training rows"),
        (VocabReducedMLMTrainer, {"mask_smoothing": 0.7}, "Set mask_smoothing=0"),
    ],
)
def test_what_would_see_all_rows_first_is_refused_of_a_stream(kind, settings, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        streaming(kind, tmp_path, tokenizer, **settings)


@pytest.mark.promise(9)
def test_rows_of_another_library_have_no_cache(tokenizer, tmp_path):
    data = torch.utils.data.Subset(rows(tokenizer), range(8))
    with pytest.raises(ValueError, match=r"teacher_cache needs a datasets.Dataset.* is a Subset"):
        make_trainer(tmp_path, tokenizer, data, teacher_cache=str(tmp_path / "cache"))
    make_trainer(tmp_path, tokenizer, data).train()


# --- The card ---------------------------------------------------------------------------------------------------------


def test_an_unknown_fact_is_refused_before_it_is_kept(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer))
    with pytest.raises(
        TypeError, match=r"A model card has no finetuned_from; push_to_hub and create_model_card take .*tags"
    ):
        trainer.create_model_card(finetuned_from="x", tags="mine")
    trainer.create_model_card(tags="mine")
    trainer.save_model()
    assert "- mine\n" in (tmp_path / "README.md").read_text()


def test_a_card_that_cannot_be_made_costs_no_weights(tokenizer, tmp_path, monkeypatch, caplog):
    def fails(self):
        raise KeyError("a fact")

    monkeypatch.setattr(DistillTrainer, "card_facts", fails)
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer), save_strategy="steps", save_steps=1)
    with caplog.at_level("WARNING", logger="retort"):
        trainer.train()
    assert "The student is saved, but its model card could not be written" in caplog.text
    resumed = make_trainer(tmp_path, tokenizer, rows(tokenizer), max_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 3
    trainer.save_model()
    assert (tmp_path / "model.safetensors").exists()


# --- What a run leaves as it was --------------------------------------------------------------------------------------


def test_a_students_pooler_does_not_stay_in_the_arguments_of_the_caller(tokenizer, tmp_path):
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    student = SentenceEncoder(tiny.model("bert"), tokenizer, SentenceModules.plain("max", 32, normalize=True))
    named = {"train_dataset": rows(tokenizer), "processing_class": tokenizer}
    assert DistillTrainer(student, tiny.model("bert", seed=1), args, **named).args.pooler == "max"
    assert args.pooler == "mean"
    assert DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named).args.pooler == "mean"


@pytest.mark.promise(9)
def test_arguments_that_know_no_objectives_are_refused_for_every_student(tokenizer, tmp_path):
    encoder = SentenceEncoder(tiny.model("bert"), tokenizer, SentenceModules.plain("max", 32, normalize=True))
    for student in (tiny.model("bert"), encoder):
        with pytest.raises(TypeError, match="args must be DistillTrainingArguments"):
            DistillTrainer(student, tiny.model("bert", seed=1), TrainingArguments(str(tmp_path), use_cpu=True))


def test_a_teachers_own_tokens_are_read_where_only_evaluation_has_them(tokenizer, tmp_path):
    teacher = tiny.model("bert", seed=1)
    data = Dataset.from_dict({"text": tiny.sentences(8)})
    prompted = tokenize(data, tokenizer, teacher_prompt="the old man ")
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    trainer = DistillTrainer(tiny.model("bert"), teacher, args, eval_dataset=prompted, processing_class=tokenizer)
    batch = trainer.data_collator([prompted[0]])
    assert batch.of_teacher[0]["input_ids"].flatten().tolist() == prompted[0]["teacher_input_ids"]
