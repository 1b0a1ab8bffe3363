"""The trainer: promises 1, 3, 4 on one process, its log, its evaluation, its errors."""

import copy
import logging
import math

import pytest
import tiny
import torch
import transformers
from datasets import Dataset, concatenate_datasets

from retort import DistillTrainer, shrink, tokenize
from retort.modeling import add_projector
from retort.modeling.encoding import Pooling, SentenceEncoder, SentenceModules, enable_packing


def rows(tokenizer, count=64, **columns):
    return tokenize(
        Dataset.from_dict({"text": tiny.sentences(count), **columns}), tokenizer, labels="labels" if columns else None
    )


def arguments(tmp_path, **changes):
    settings = {"max_steps": 4, "learning_rate": 1e-3, "save_strategy": "no", "relation_heads": 4}
    return tiny.arguments(tmp_path, **settings | changes)


ALL = {
    "logits_weight": 1.0,
    "hidden_weight": 1.0,
    "relation_weight": 1.0,
    "label_weight": 1.0,
    "embedding_weight": 1.0,
    "similarity_weight": 1.0,
    "features_weight": 1.0,
}


def labelled(tokenizer, count=64):
    """Rows with a label on the first token after [CLS], and a sentence of few or many words."""
    data = rows(tokenizer, count)
    return data.map(lambda row: {"labels": [-100] + [row["input_ids"][1] % 3] * (len(row["input_ids"]) - 2) + [-100]})


def teacher_and_student(family="bert", task="token", **sizes):
    teacher = tiny.model(family, task, layers=4)
    student = shrink(teacher, layers=2, **sizes)
    student.config.update({name: 0.0 for name in vars(student.config) if "dropout" in name})
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return teacher, student


def weights(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def test_every_objective_is_trained_and_logged_under_its_own_name(tokenizer, tmp_path):
    teacher, student = teacher_and_student(hidden_size=16)
    before = weights(student)
    args = arguments(tmp_path, **ALL, max_steps=30, learning_rate=3e-3, per_device_train_batch_size=64)
    trainer = DistillTrainer(student, teacher, args, train_dataset=labelled(tokenizer), processing_class=tokenizer)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("logits", "hidden", "relations", "labels", "embedding", "similarity", "features"):
        assert steps[-1][f"loss_{name}"] < steps[0][f"loss_{name}"], name
    assert not torch.equal(before, weights(student))


def test_the_logged_loss_is_the_weighted_sum_of_the_logged_parts(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    args = arguments(tmp_path, logits_weight=0.5, hidden_weight=2.0, label_weight=3.0, gradient_accumulation_steps=2)
    trainer = DistillTrainer(student, teacher, args, train_dataset=labelled(tokenizer), processing_class=tokenizer)
    trainer.train()
    for entry in trainer.state.log_history[:-1]:
        total = 0.5 * entry["loss_logits"] + 2 * entry["loss_hidden"] + 3 * entry["loss_labels"]
        assert entry["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("task", ["token", "sequence"])
def test_features_are_compared_behind_the_projector_that_the_classifier_reads(task, tokenizer, tmp_path):
    teacher, student = teacher_and_student(task=task, hidden_size=16)
    add_projector(student, 32)
    before = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    args = arguments(tmp_path, features_weight=1.0)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    assert not list(trainer.model.objectives.parameters())
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(8)])
    view = batch.student
    with torch.no_grad():
        if task == "token":
            row = {"input_ids": torch.tensor([trainer.train_dataset[0]["input_ids"]])}
            ours = student.classifier.projector(student.bert(**row).last_hidden_state[0])
            theirs = teacher.bert(**row).last_hidden_state[0]
            loss = trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[0]]))
        else:
            ours, theirs = student.bert(**view).pooler_output, teacher.bert(**view).pooler_output
            ours = student.classifier.projector(ours)
            loss = trainer.compute_loss(trainer.model, batch)
    torch.testing.assert_close(loss, (ours - theirs).square().mean())
    trainer.train()
    changed = {name for name, parameter in student.named_parameters() if not torch.equal(before[name], parameter)}
    assert "classifier.projector.weight" in changed
    assert "classifier.classifier.weight" not in changed


def test_first_tokens_only_are_compared_where_that_is_asked(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    args = arguments(tmp_path, hidden_weight=1.0, hidden_tokens="first", layer_map="last")
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    chosen = [trainer.train_dataset[index] for index in range(3)]
    with torch.no_grad():
        tops = [
            [model.bert(torch.tensor([row["input_ids"]])).last_hidden_state[0, 0] for model in (student, teacher)]
            for row in chosen
        ]
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(chosen))
    torch.testing.assert_close(loss, torch.stack([(a - b).square().mean() for a, b in tops]).mean())


@pytest.mark.promise(1)
def test_the_embedding_layer_alone_is_compared_without_a_layer_being_run(tokenizer, tmp_path):
    teacher, student = teacher_and_student("bert", "encoder")
    args = arguments(tmp_path, embedding_weight=1.0, embedding_loss="mse", pooler="mean_first", max_steps=16)
    with torch.no_grad():
        student.embeddings.word_embeddings.weight.mul_(1.1)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    ran = []
    for layer in (*teacher.encoder.layer, *student.encoder.layer):
        layer.register_forward_hook(lambda *_: ran.append(1))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert not ran
    assert 0 < losses[-1] < losses[0] / 2


def test_attention_of_a_layer_below_the_top_is_compared(tokenizer, tmp_path):
    teacher, student = teacher_and_student("bert", "encoder")
    for model in (teacher, student):
        model.set_attn_implementation("eager")
    args = arguments(tmp_path, attention_weight=1.0, layer_map="1:2", max_steps=1)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    inputs, mask = batch.student, batch.layout.mask
    with torch.no_grad():
        found = trainer.compute_loss(trainer.model, batch).item()
        sides = [model(**inputs, output_attentions=True).attentions for model in (student, teacher)]
    # The layer that makes hidden state 1, and the one that makes 2: mean over heads and keys of each real query.
    error = (sides[0][0] - sides[1][1]).square().sum(-1).mean(1) / batch.layout.lengths[:, None]
    assert found == pytest.approx(error[mask].mean().item(), rel=1e-4)
    trainer.train()


def test_a_teacher_in_train_mode_changes_nothing_and_is_not_changed(tokenizer, tmp_path):
    results = []
    for mode in (True, False):
        teacher, student = teacher_and_student()
        teacher.train(mode)
        before = weights(teacher)
        args = arguments(tmp_path, hidden_weight=1.0, logits_weight=1.0)
        trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
        trainer.train()
        results.append(weights(student))
        assert torch.equal(before, weights(teacher))
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
        assert not any(module is teacher for module in trainer.model.modules())
    assert torch.equal(*results)


@pytest.mark.promise(3)
@pytest.mark.parametrize("task", ["token", "sequence"])
def test_accumulation_does_not_change_the_loss_curve(task, tokenizer, tmp_path):
    curves = []
    for batch_size, accumulation in ((64, 1), (16, 4)):
        teacher, student = teacher_and_student(task=task)
        data = labelled(tokenizer, 256) if task == "token" else rows(tokenizer, 256, labels=[i % 3 for i in range(256)])
        args = arguments(
            tmp_path,
            **ALL,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=8,
        )
        trainer = DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


@pytest.mark.promise(4)
@pytest.mark.parametrize("family", ["bert", "modernbert", "roberta"])
def test_packed_and_padded_batches_train_alike(family, tokenizer, tmp_path):
    curves = []
    for backend in ("auto", "padded"):
        teacher, student = teacher_and_student(family)
        args = arguments(tmp_path, **ALL, attention_backend=backend)
        trainer = DistillTrainer(student, teacher, args, train_dataset=labelled(tokenizer), processing_class=tokenizer)
        assert trainer.data_collator.student.packed is (backend == "auto")
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


@pytest.mark.promise(4)
def test_more_padding_gives_the_same_loss_and_gradient(tokenizer, tmp_path):
    teacher, student = teacher_and_student(hidden_size=16)
    for model in (teacher, student):
        model.set_attn_implementation("eager")
    args = arguments(tmp_path, **ALL, attention_weight=1.0, attention_backend="padded")
    data = labelled(tokenizer, 8)
    trainer = DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)
    results = []
    for extra in (0, 7):
        longest = max(map(len, data["input_ids"])) + extra
        padded = {"input_ids": [], "attention_mask": [], "labels": []}
        for row in data:
            gap = longest - len(row["input_ids"])
            padded["input_ids"].append(row["input_ids"] + [0] * gap)
            padded["attention_mask"].append([1] * len(row["input_ids"]) + [0] * gap)
            padded["labels"].append(row["labels"] + [-100] * gap)
        stock_batch = {name: torch.tensor(value) for name, value in padded.items()}
        batches, counts = trainer.get_batch_samples(iter([stock_batch]), 1, torch.device("cpu"))
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=counts)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        results.append((loss.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_two_teachers_are_averaged_with_their_weights(tokenizer, tmp_path):
    teachers = [tiny.model("bert", "token", layers=4, seed=seed) for seed in (0, 1)]
    student = shrink(teachers[0], layers=2)
    args = arguments(tmp_path, logits_weight=1.0, teacher_weights=[3.0, 1.0])
    trainer = DistillTrainer(student, teachers, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    joint = trainer.teacher.outputs(batch).logits
    for teacher in teachers:
        enable_packing(teacher)
    single = [teacher(**batch.student).logits[0] for teacher in teachers]
    torch.testing.assert_close(joint, 0.75 * single[0] + 0.25 * single[1])


def test_rows_without_labels_are_learnt_from_beside_those_with(tokenizer, tmp_path):
    """A labelled row counts where it has labels; of another the teacher's logits count at every token."""
    teacher, student = teacher_and_student()
    with_labels, without = labelled(tokenizer, 8), rows(tokenizer, 16).select(range(8, 16))
    without = without.map(lambda row: {"labels": [-100] * row["length"]}, features=with_labels.features)
    data = concatenate_datasets([with_labels, without])
    args = arguments(tmp_path, logits_weight=1.0, logits_loss="mse", label_weight=1.0)
    trainer = DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)
    batches, counts = trainer.get_batch_samples(iter([trainer.data_collator(list(data))]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=counts)

    distances, entropies = [], []
    for row in data:
        inputs = {"input_ids": torch.tensor([row["input_ids"]])}
        theirs, ours = (model(**inputs).logits[0].double() for model in (teacher.eval(), student))
        known = torch.tensor(row["labels"]) != -100
        learnt = known if known.any() else torch.ones_like(known)
        distances.append((ours - theirs).square().mean(-1)[learnt])
        entropies.append(-ours.log_softmax(-1)[known].gather(1, torch.tensor(row["labels"])[known, None]))
    expected = torch.cat(distances).mean() + torch.cat(entropies).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_texts_without_a_class_are_learnt_from_beside_those_with_one(tokenizer, tmp_path):
    teacher, student = teacher_and_student(task="sequence")
    data = rows(tokenizer, 8, labels=[0, 1, 2, -100, 1, -100, 0, -100])
    args = arguments(tmp_path, logits_weight=1.0, logits_loss="mse", label_weight=1.0)
    trainer = DistillTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)
    batches, counts = trainer.get_batch_samples(iter([trainer.data_collator(list(data))]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=counts)

    each = [{"input_ids": torch.tensor([row["input_ids"]])} for row in data]
    models = teacher.eval(), student
    theirs, ours = (torch.cat([model(**inputs).logits for inputs in each]).double() for model in models)
    entropy = torch.nn.functional.cross_entropy(ours, torch.tensor(data["labels"][:]))
    expected = (ours - theirs).square().mean() + entropy
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_evaluation_reports_every_objective_and_gives_logits_in_the_order_of_the_rows(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    data = labelled(tokenizer, 20)
    seen = {}

    def compute_metrics(prediction):
        seen["labels"] = prediction.label_ids
        return {"rows": len(prediction.predictions)}

    args = arguments(tmp_path, logits_weight=1.0, label_weight=1.0)
    trainer = DistillTrainer(
        student, teacher, args, eval_dataset=data, processing_class=tokenizer, compute_metrics=compute_metrics
    )
    metrics = trainer.evaluate()
    assert metrics["eval_rows"] == 20
    assert math.isfinite(metrics["eval_loss_logits"])
    assert math.isfinite(metrics["eval_loss_labels"])
    for row, labels in zip(data, seen["labels"], strict=True):
        assert [label for label in labels if label != -100] == [label for label in row["labels"] if label != -100]


def with_teacher_of_nan(tokenizer, tmp_path, **settings):
    teacher, student = teacher_and_student()
    with torch.no_grad():
        next(teacher.parameters()).fill_(math.nan)
    args = arguments(tmp_path, logits_weight=1.0, **settings)
    return DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)


def test_a_loss_that_is_not_finite_stops_the_run(tokenizer, tmp_path):
    trainer = with_teacher_of_nan(tokenizer, tmp_path)
    with pytest.raises(FloatingPointError, match="loss_logits is nan by step 1"):
        trainer.train()


@pytest.mark.parametrize(
    ("saving", "step"), [({"save_strategy": "no"}, 4), ({"save_strategy": "steps", "save_steps": 2}, 2)]
)
def test_a_loss_that_is_not_finite_stops_a_run_before_it_saves_or_ends(saving, step, tokenizer, tmp_path):
    trainer = with_teacher_of_nan(tokenizer, tmp_path, logging_steps=500, **saving)
    with pytest.raises(FloatingPointError, match=f"loss_logits is nan by step {step}"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_losses_that_are_not_finite_may_be_left_out_of_the_log(tokenizer, tmp_path):
    trainer = with_teacher_of_nan(tokenizer, tmp_path, logging_steps=1, logging_nan_inf_filter=True)
    trainer.train()
    assert not any("loss_logits" in entry for entry in trainer.state.log_history)
    with pytest.raises(FloatingPointError, match="loss_logits is nan"):
        trainer.evaluate(rows(tokenizer))
    with pytest.raises(FloatingPointError, match="The student was not saved"):
        trainer.save_model()


def test_weights_that_are_not_finite_are_not_saved(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    args = arguments(tmp_path, logits_weight=1.0)
    student.register_buffer("mask", torch.full((2,), -math.inf))
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    trainer.save_model()
    saved = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        student.get_input_embeddings().weight[3, 2] = math.inf
    with pytest.raises(FloatingPointError, match=r"The student was not saved.* 1 of its weights .*word_embeddings"):
        trainer.save_model()
    assert (tmp_path / "model.safetensors").read_bytes() == saved


def test_the_heads_are_trained_but_never_exported(tokenizer, tmp_path):
    teacher, student = teacher_and_student(hidden_size=16)
    args = arguments(tmp_path, hidden_weight=1.0)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows(tokenizer), processing_class=tokenizer)
    before = weights(trainer.model.objectives)
    trainer.train()
    assert not torch.equal(before, weights(trainer.model.objectives))
    trainer.save_model(tmp_path / "student")
    reloaded = type(student).from_pretrained(tmp_path / "student")
    assert set(reloaded.state_dict()) == set(student.state_dict())
    assert torch.equal(weights(reloaded), weights(student))


def test_stock_collators_work(tokenizer, tmp_path):
    from transformers import DataCollatorForLanguageModeling

    teacher = tiny.model("bert", "masked_lm", layers=4)
    args = arguments(tmp_path, logits_weight=1.0, label_weight=1.0)
    trainer = DistillTrainer(
        shrink(teacher, layers=2),
        teacher,
        args,
        train_dataset=rows(tokenizer),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3),
        processing_class=tokenizer,
    )
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss_labels"])


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "No objective"),
        ({"attention_weight": 1.0}, "set_attn_implementation\\('eager'\\)"),
        ({"attention_weight": 1.0, "layer_map": "0:0"}, r"layer_map='0:0' pairs none.*Pair layers counted from 1"),
        ({"hidden_weight": 1.0, "projector": "none"}, "projector='none' allows no projector"),
        ({"relation_weight": 1.0, "relation_heads": 5}, "does not divide the student's hidden size of 16"),
        ({"hidden_weight": -1.0}, "must be 0 \\(off\\) or above"),
        ({"logits_weight": 1.0, "temperature": 0.0}, "must be above 0"),
        (
            {"embedding_weight": 1.0, "teacher_weights": [1.0, 2.0]},
            "weights: 2, teachers: 1. Give each teacher one weight",
        ),
    ],
)
def test_what_would_not_train_as_asked_is_refused(changes, message, tokenizer, tmp_path):
    teacher, student = teacher_and_student(hidden_size=16)
    with pytest.raises(ValueError, match=message):
        DistillTrainer(student, teacher, arguments(tmp_path, **changes), processing_class=tokenizer)


def test_a_student_in_half_precision_is_refused(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    with pytest.raises(ValueError, match=r"dtype=torch\.float32"):
        DistillTrainer(student.half(), teacher, arguments(tmp_path, logits_weight=1.0), processing_class=tokenizer)


def test_the_student_as_its_own_teacher_is_refused(tmp_path):
    _, student = teacher_and_student()
    with pytest.raises(ValueError, match="is the student itself"):
        DistillTrainer(student, student, arguments(tmp_path, logits_weight=1.0))


@pytest.mark.promise(9)
def test_a_student_with_modules_of_a_teacher_is_refused_and_one_with_copies_is_not(tokenizer, tmp_path):
    teacher, student, other = tiny.model(seed=1), tiny.model(), tiny.model(seed=2)
    modules = SentenceModules(Pooling.of("mean"), 16, torch.nn.Sequential(torch.nn.LayerNorm(32)))
    encoder = SentenceEncoder(teacher, tokenizer, modules)
    args, shared = arguments(tmp_path, embedding_weight=1.0), []
    shared.append(SentenceEncoder(tiny.model(), tokenizer, modules))
    shared.append(tiny.model())
    shared[-1].encoder.layer[0] = teacher.encoder.layer[1]
    shared.append(student)
    student.set_input_embeddings(teacher.get_input_embeddings())
    shared.append(tiny.model())
    shared[-1].get_input_embeddings().weight.data = teacher.get_input_embeddings().weight.data
    words = "embeddings.word_embeddings.weight"
    names = "modules.head.0.weight", "encoder.layer.0.attention.self.query.weight", words, words
    for each, name in zip(shared, names, strict=True):
        with pytest.raises(ValueError, match=rf"The student's {name} has the memory of the teacher's.*copy\.deepcopy"):
            DistillTrainer(each, [other, encoder], args, processing_class=tokenizer)
    student.set_input_embeddings(copy.deepcopy(teacher.get_input_embeddings()))
    for each in [student, shrink(teacher, layers=1), copy.deepcopy(teacher)]:
        DistillTrainer(each, encoder, args, processing_class=tokenizer)
        assert all(parameter.requires_grad for parameter in each.parameters())
    student.set_input_embeddings(teacher.get_input_embeddings())
    DistillTrainer(student, encoder, args, processing_class=tokenizer)  # what is shared is frozen by now


@pytest.mark.promise(9)
def test_a_student_that_a_trainer_froze_as_its_teacher_is_refused_until_it_is_trainable(tokenizer, tmp_path):
    first, second = tiny.model(), tiny.model(seed=1)
    args = arguments(tmp_path, embedding_weight=1.0)
    given = {"args": args, "train_dataset": rows(tokenizer), "processing_class": tokenizer}
    DistillTrainer(first, second, **given)
    with pytest.raises(ValueError, match=r"the teacher of an earlier trainer.*student\.requires_grad_\(True\)"):
        DistillTrainer(second, tiny.model(seed=2), **given)
    DistillTrainer(second.requires_grad_(True), tiny.model(seed=2), **given)


def test_labels_in_another_order_are_refused(tmp_path):
    teacher, student = teacher_and_student()
    teacher.config.id2label = {0: "O", 1: "B", 2: "I"}
    student.config.id2label = {0: "B", 1: "O", 2: "I"}
    with pytest.raises(ValueError, match="the student's labels are B, O, I \\(3\\), the teacher's O, B, I"):
        DistillTrainer(student, teacher, arguments(tmp_path, logits_weight=1.0))


def test_another_vocabulary_without_its_tokenizer_is_refused(tokenizer, tmp_path):
    _, student = teacher_and_student()
    other = tiny.model("bert", "token", layers=4, vocab_size=200)
    with pytest.raises(ValueError, match="teacher_processing_class"):
        DistillTrainer(student, other, arguments(tmp_path, logits_weight=1.0), processing_class=tokenizer)


def test_tokens_of_two_tokenizers_without_alignment_are_refused(tokenizer, tmp_path):
    teacher, student = teacher_and_student()
    other = tiny.tokenizer("bpe")
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer, teacher_tokenizer=other)
    with pytest.raises(ValueError, match="align=True"):
        DistillTrainer(
            student,
            teacher,
            arguments(tmp_path, hidden_weight=1.0),
            train_dataset=data,
            processing_class=tokenizer,
            teacher_processing_class=other,
        )


def test_a_teacher_folder_without_weights_is_refused(tmp_path):
    teacher, student = teacher_and_student()
    teacher.config.save_pretrained(tmp_path / "teacher")
    with pytest.raises(FileNotFoundError, match=r"must have config\.json and model\.safetensors"):
        DistillTrainer(student, tmp_path / "teacher", arguments(tmp_path, logits_weight=1.0))


def test_a_teacher_whose_head_would_be_random_is_refused(tmp_path):
    teacher, student = teacher_and_student()
    teacher.base_model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(ValueError, match="has no weights for classifier"):
        DistillTrainer(student, tmp_path / "teacher", arguments(tmp_path, logits_weight=1.0))


def test_weights_that_no_run_needs_are_not_reported(tokenizer, tmp_path, request):
    """transformers' table of unexpected weights would look like a fault."""
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    transformers.logging.add_handler(handler)
    transformers.logging.set_verbosity_warning()
    request.addfinalizer(transformers.logging.set_verbosity_error)
    request.addfinalizer(lambda: transformers.logging.remove_handler(handler))
    teacher, student = teacher_and_student()
    teacher.save_pretrained(tmp_path / "teacher")
    transformers.AutoModel.from_pretrained(tmp_path / "teacher")
    assert "UNEXPECTED" in told.pop()
    settings = arguments(tmp_path, embedding_weight=1.0)
    DistillTrainer(student.base_model, tmp_path / "teacher", settings, processing_class=tokenizer)
    assert not told
