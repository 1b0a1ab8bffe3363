"""Contrastive distillation: the queue, the loss against references, its log and its errors."""

import logging

import pytest
import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from steps import step_of
from transformers import TrainerCallback

from retort import CKDTrainer, CKDTrainingArguments, shrink, tokenize
from retort.collators import as_batch, text_ids
from retort.modeling.losses import KeyQueue, LearnedScale, info_nce, queue_log_sum_exp
from retort.modeling.losses.contrastive import CHUNK
from retort.trainers.objectives.contrastive import Candidates


def keys_of(count, width=4, seed=0):
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(vectors, dim=-1)


# --- The loss ---------------------------------------------------------------------------------------------------------


def test_info_nce_is_the_cross_entropy_over_all_keys_that_are_not_ignored():
    anchors, positives, batch, past = (keys_of(n, seed=i) for i, n in enumerate((3, 3, 5, 7)))
    generator = torch.Generator().manual_seed(9)
    masks = [torch.rand(3, len(keys), generator=generator) < 0.4 for keys in (batch, past)]
    found = info_nce(anchors / 0.1, positives, [(batch, masks[0]), (past, masks[1])])
    further = (anchors @ past.T / 0.1).masked_fill(masks[1], -torch.inf).logsumexp(1)
    torch.testing.assert_close(info_nce(anchors / 0.1, positives, [(batch, masks[0])], further), found)
    for row in range(3):
        negatives = torch.cat([batch[~masks[0][row]], past[~masks[1][row]]]).double()
        logits = torch.cat([positives[row, None].double(), negatives]) @ anchors[row].double() / 0.1
        assert found[row].item() == pytest.approx(F.cross_entropy(logits, torch.tensor(0)).item(), rel=1e-5)


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_long_queue_gives_the_sum_and_the_gradient_of_one_matrix(count):
    # Wide vectors: at this temperature no key comes near to the largest product that there could be.
    anchors, keys = keys_of(6, width=256) / 0.01, keys_of(count, width=256, seed=1)
    ids, key_ids = torch.tensor([0, 1, 2, 3, 4, 2]), torch.arange(count) % 40
    anchors.requires_grad_()
    weights = torch.arange(1.0, 7)
    found = queue_log_sum_exp(anchors, ids, keys, key_ids)
    (gradient,) = torch.autograd.grad((found * weights)[found > -1e30].sum(), anchors)
    exact = anchors.detach().double().requires_grad_()
    logits = (exact @ keys.double().T).masked_fill(ids[:, None] == key_ids, -torch.inf)
    known = logits.isfinite().any(1)
    expected = logits[known].logsumexp(1)
    (expected_gradient,) = torch.autograd.grad((expected * weights[known]).sum(), exact)
    assert (found > -1e30).tolist() == known.tolist()
    torch.testing.assert_close(found[known].double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-5)


def exact_log_sum_exp(anchors, ids, keys, key_ids):
    """Value and gradient of the sum, in float64, of the very numbers that are given."""
    anchors = anchors.detach().double().requires_grad_()
    values = (anchors @ keys.double().T).masked_fill(ids[:, None] == key_ids, -torch.inf).logsumexp(1)
    return values, torch.autograd.grad(values.sum(), anchors)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.05, 0.03, 0.02, 0.01, 0.005])
def test_a_queue_is_as_exact_as_float64_whatever_its_format_and_tau(dtype, temperature):
    """Anchors lie near their own keys, whose products are far above all others."""
    keys, ids = keys_of(5000, width=64, seed=1).to(dtype), torch.arange(5000)
    anchors = F.normalize(keys[:6].float() + 0.3 * keys_of(6, width=64, seed=2), dim=-1) / temperature
    anchors.requires_grad_()
    expected, expected_gradient = exact_log_sum_exp(anchors, ids[:6], keys, ids)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = queue_log_sum_exp(anchors, ids[:6], keys, ids)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-4)
        (gradient,) = torch.autograd.grad(found.sum(), anchors)
        torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.0125, 0.005])
def test_a_key_that_is_far_nearer_than_all_before_it_is_no_infinity(dtype, temperature):
    """The keys of the first chunk are opposite to the anchor; a later one is equal to it."""
    anchor = keys_of(1, width=64).to(dtype)
    keys, ids = torch.cat([-anchor.expand(CHUNK, -1), anchor]), torch.arange(CHUNK + 1)
    anchor = (anchor.float() / temperature).requires_grad_()
    found = queue_log_sum_exp(anchor, torch.tensor([-1]), keys, ids)
    expected, expected_gradient = exact_log_sum_exp(anchor, torch.tensor([-1]), keys, ids)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), anchor)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-6)


def test_an_anchor_whose_keys_are_all_its_own_has_no_loss_and_a_finite_gradient():
    anchors = keys_of(2).requires_grad_()
    keys = keys_of(2, seed=1)
    loss = info_nce(anchors, keys, [(keys, torch.ones(2, 2, dtype=torch.bool))])
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert anchors.grad.abs().max() < 1e-6


def test_a_learnt_scale_is_the_length_of_what_it_returns():
    vectors = torch.randn(5, 3) * 7
    scale = LearnedScale(20.0)
    torch.testing.assert_close(scale(vectors), F.normalize(vectors, dim=-1) * 20)


# --- The queue --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=8))
def test_a_queue_holds_the_newest_keys(size, pushes):
    queue, pushed = KeyQueue(size, 2, device="cpu"), []
    for count in pushes:
        ids = torch.arange(len(pushed), len(pushed) + count)
        queue.push(ids[:, None].float().expand(-1, 2), ids)
        pushed += ids.tolist()
        assert sorted(queue.ids.tolist()) == pushed[-size:]
        assert queue.keys[:, 0].tolist() == queue.ids.tolist()
        assert queue.pushed == len(pushed)


def test_a_restored_queue_goes_on_where_the_saved_one_was():
    one, other = (KeyQueue(5, 4, dtype=torch.float16, device="cpu") for _ in range(2))
    one.push(keys_of(7), torch.arange(7))
    other.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    for queue in (one, other):
        queue.push(keys_of(3, seed=1), torch.arange(7, 10))
    assert torch.equal(one.keys, other.keys)
    assert torch.equal(one.ids, other.ids)
    with pytest.raises(ValueError, match=r"holds \[5, 4\] numbers, this one \[6, 4\].*queue_size"):
        KeyQueue(6, 4, device="cpu").load_state_dict(one.state_dict())


# --- The trainer ------------------------------------------------------------------------------------------------------


def rows(tokenizer, count=64, seed=0):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(count, seed=seed)}), tokenizer)


def make_trainer(tmp_path, tokenizer, data, *, width=16, student=None, **settings):
    teacher = tiny.model("bert", layers=4)
    student = student or shrink(teacher, layers=2, hidden_size=width)
    defaults = {"max_steps": 6, "learning_rate": 3e-3, "save_strategy": "no", "disable_dropout": True}
    args = tiny.arguments(tmp_path, CKDTrainingArguments, **defaults | settings)
    return CKDTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)


def test_ids_tell_texts_apart_whatever_their_batch_and_form(tokenizer, tmp_path):
    data = rows(tokenizer, 200)
    packed = make_trainer(tmp_path, tokenizer, data).data_collator
    padded = make_trainer(tmp_path, tokenizer, data, attention_backend="padded").data_collator
    everything = list(data)

    def ids(collator, chosen):
        batch = as_batch(collator([everything[i] for i in chosen]))
        order = torch.arange(len(chosen))[slice(None) if batch.order is None else batch.order].tolist()
        found = text_ids(batch).tolist()
        return {chosen[place]: each for place, each in zip(order, found, strict=True)}

    found = ids(packed, range(200))
    assert found == ids(padded, range(200))
    assert found == ids(packed, range(100)) | ids(padded, range(100, 200))
    texts = {tuple(row["input_ids"]) for row in everything}
    assert len(set(found.values())) == len(texts) > 150


def test_the_loss_is_that_of_the_definition_over_step_and_queue(tokenizer, tmp_path):
    data = concatenate_datasets([rows(tokenizer, 24), rows(tokenizer, 4)])  # four sentences twice
    trainer = make_trainer(tmp_path, tokenizer, data, queue_size=8)
    step_of(trainer, range(8))
    batches, step = step_of(trainer, range(6))
    trainer.training_step(trainer.model, batches[0], step)
    assert len(trainer.queue) == 6
    batches, counts = step_of(trainer, range(4, 10), [24, 25, 26, 27])
    losses = [trainer.compute_loss(trainer.model, b, num_items_in_batch=counts).item() for b in batches]

    everyone = [*range(4, 10), 24, 25, 26, 27]
    with torch.no_grad():

        def embed(model, index):
            states = model(torch.tensor([data[index]["input_ids"]]))[0][0]
            return states.mean(0)

        teacher = trainer.teacher.models[0]
        keys = {i: F.normalize(embed(teacher, i), dim=-1).double() for i in {*everyone, *range(6)}}
        ours = {
            i: F.normalize(
                trainer.model.objectives["contrastive"].projector(embed(trainer.student, i)), dim=-1
            ).double()
            for i in everyone
        }
    text = {i: tuple(data[i]["input_ids"]) for i in keys}
    expected = 0
    for anchor in everyone:
        negatives = [keys[i] for i in [*everyone, *range(6)] if text[i] != text[anchor]]
        logits = torch.stack([keys[anchor], *negatives]) @ ours[anchor] / 0.05
        expected += F.cross_entropy(logits, torch.tensor(0)).item() / len(everyone)
    assert sum(losses) == pytest.approx(expected, rel=1e-4)


OPTIONS = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("both_directions", "student_negatives"), OPTIONS)
def test_the_students_own_embeddings_can_be_keys(both_directions, student_negatives, tokenizer, tmp_path):
    options = {"both_directions": both_directions, "student_negatives": student_negatives, "queue_size": 0}
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer, 24), **options)
    (batch,), counts = step_of(trainer, range(8))
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts).item()
    with torch.no_grad():
        output = trainer.model(batch.student, batch.layout)
    ours = F.normalize(output.compared[trainer.contrast], dim=-1).double()
    (part,) = counts.micro_batches
    theirs, others = part.references[trainer.contrast].positives.double(), ~torch.eye(8, dtype=torch.bool)
    expected = 0
    for i in range(8):
        negatives = [theirs[others[i]]] + ([ours[others[i]]] if student_negatives else [])
        there = F.cross_entropy(torch.cat([theirs[i, None], *negatives]) @ ours[i] / 0.05, torch.tensor(0))
        back = F.cross_entropy(torch.cat([ours[i, None], ours[others[i]]]) @ theirs[i] / 0.05, torch.tensor(0))
        expected += ((there + back) / 2 if both_directions else there).item() / 8
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_micro_batches_have_the_gradient_of_one_large_batch(dropout, tokenizer, tmp_path):
    """With dropout the masks of one batch and of many can't be equal: then, against autograd through all of them."""
    options = {"both_directions": True, "student_negatives": True, "disable_dropout": False, "learn_temperature": True}
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer, 24), queue_size=24, **options)
    for module in trainer.student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    trainer.queue.push(keys_of(10, width=32), torch.arange(10))
    trainer.create_optimizer()
    torch.manual_seed(1)
    batches, counts = step_of(trainer, range(3), range(3, 8), range(8, 10))
    trainer.model.zero_grad()
    for batch in batches:
        trainer.training_step(trainer.model, batch, counts)
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}

    trainer.model.zero_grad()
    torch.manual_seed(1)
    outputs = [trainer.model(batch.student, batch.layout) for batch in batches]
    anchors = [output.compared[trainer.contrast] for output in outputs]
    keys = counts.everywhere[trainer.contrast]
    everyone = Candidates(*keys, keys, (trainer.queue.keys[:10], trainer.queue.ids[:10]))
    trainer.contrast.compare(torch.cat(anchors), everyone).mean().backward()
    assert "objectives.contrastive.scale.logarithm" in gradient
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                gradient[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_a_perfect_student_is_not_punished_for_keys_of_its_own_sentences(tokenizer, tmp_path):
    """The queue holds every sentence of the corpus: unmasked, each would meet itself as a negative, a loss of log 2."""
    perfect = tiny.model("bert", layers=4)
    settings = {"learning_rate": 0.0, "max_steps": 24, "contrastive_temperature": 2e-4}
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer), student=perfect, **settings)
    assert trainer.queue.size == 64
    trainer.train()
    losses = [entry["loss_contrastive"] for entry in trainer.state.log_history if "loss_contrastive" in entry]
    assert len(losses) == 24
    assert max(losses) < 0.1


def test_training_brings_the_student_to_its_teacher_and_logs_how(tokenizer, tmp_path):
    trainer = make_trainer(
        tmp_path, tokenizer, rows(tokenizer, 96), max_steps=60, learn_temperature=True, learning_rate=5e-3
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss_contrastive" in entry]
    first, last = entries[0], entries[-1]
    assert last["alignment"] < first["alignment"]
    assert first["scale"] == pytest.approx(20, rel=1e-3)
    assert last["scale"] != pytest.approx(20, rel=1e-3)
    for name in ("uniformity", "cosine_spread", "teacher_cosine_spread"):
        assert name in last
    assert len(trainer.queue) == 96


def test_the_metrics_are_those_of_their_definitions(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer, 16), max_steps=1, width=32, learning_rate=0.0)
    trainer.train()
    entry = trainer.state.log_history[0]
    batches, step = step_of(trainer, next(iter(trainer.get_train_dataloader().batch_sampler)))
    with torch.no_grad():
        ours = F.normalize(trainer.model(batches[0].student, batches[0].layout).encoder.embedding, dim=-1).double()
    theirs = step.micro_batches[0].references[trainer.contrast].positives.double()
    pairs = torch.pdist(ours)
    assert entry["alignment"] == pytest.approx((ours - theirs).square().sum(1).mean().item(), rel=1e-4)
    assert entry["uniformity"] == pytest.approx(pairs.square().mul(-2).exp().mean().log().item(), rel=1e-4)
    assert entry["cosine_spread"] == pytest.approx((1 - pairs.square() / 2).std().item(), rel=1e-3)


def test_a_collapse_is_warned_of_once(tokenizer, tmp_path, caplog):
    student = shrink(tiny.model("bert", layers=4), layers=2)
    with torch.no_grad():
        student.encoder.layer[-1].output.LayerNorm.weight.fill_(1e-4)
        student.encoder.layer[-1].output.LayerNorm.bias.fill_(1.0)
    with caplog.at_level(logging.WARNING, logger="retort"):
        make_trainer(tmp_path, tokenizer, rows(tokenizer), student=student, learning_rate=1e-6, max_steps=3).train()
    assert sum("becoming alike" in record.message for record in caplog.records) == 1


def test_a_healthy_student_is_not_warned_of(tokenizer, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        make_trainer(tmp_path, tokenizer, rows(tokenizer)).train()
    assert not any("becoming alike" in record.message for record in caplog.records)


@pytest.mark.parametrize("cached", [False, True], ids=["live teacher", "cached teacher"])
def test_a_queue_can_start_full(cached, tokenizer, tmp_path):
    cache = {"teacher_cache": str(tmp_path / "cache")} if cached else {}
    data = rows(tokenizer, 40)
    trainer = make_trainer(
        tmp_path, tokenizer, data, fill_queue=True, queue_size=32, max_steps=1, learning_rate=0.0, **cache
    )
    filled = []
    trainer.add_callback(
        type("Look", (TrainerCallback,), {"on_train_begin": lambda *a, **k: filled.append(len(trainer.queue))})
    )
    trainer.train()
    assert filled == [32]
    batch = as_batch(trainer.data_collator([trainer.train_dataset[i] for i in range(40)]))
    keys = dict(
        zip(
            text_ids(batch).tolist(), F.normalize(trainer.teacher.outputs(batch).embedding.float(), dim=-1), strict=True
        )
    )
    for key, text in zip(trainer.queue.keys, trainer.queue.ids.tolist(), strict=True):
        torch.testing.assert_close(key, keys[text], atol=2e-3, rtol=0)


def test_other_objectives_can_be_added_and_share_the_projector(tokenizer, tmp_path):
    settings = {"embedding_weight": 1.0, "embedding_loss": "mse", "similarity_weight": 0.5}
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer), **settings)
    trainer.train()
    assert len(list(trainer.model.objectives.parameters())) == 2  # a weight and a bias
    assert trainer.model.objectives["contrastive"].projector is trainer.model.objectives["embedding"].projector
    for name in ("contrastive", "embedding", "similarity"):
        assert f"loss_{name}" in trainer.state.log_history[0]


def test_evaluation_compares_within_a_batch(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer))
    metrics = trainer.evaluate(rows(tokenizer, 20, seed=3))
    assert metrics["eval_loss_contrastive"] > 0
    assert "eval_alignment" in metrics


def test_the_student_is_a_sentence_transformer_with_or_without_its_projector(tokenizer, tmp_path):
    for keep, width in ((False, 16), (True, 32)):
        folder = tmp_path / str(keep)
        trainer = make_trainer(folder, tokenizer, rows(tokenizer), keep_projector=keep, learn_temperature=True)
        trainer.train()
        trainer.save_model()
        assert SentenceTransformer(str(folder), device="cpu").encode(["the cat sat"]).shape == (1, width)
        assert "InfoNCE" in (folder / "README.md").read_text()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queue_size": 65}, r"queue_size=65, but there are 64 training rows.*more text"),
        ({"queue_size": -1}, "queue_size=-1 must be 0 .no queue. or above"),
        ({"contrastive_temperature": 0.0}, "contrastive_temperature=0.0: tau divides the cosines"),
        ({"contrastive_weight": 0.0}, "No objective.*contrastive_weight"),
        ({"queue_size": 0, "per_device_train_batch_size": 1}, "A step of a single sentence has no negatives"),
    ],
)
def test_what_has_no_negatives_or_no_meaning_is_refused(settings, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, tokenizer, rows(tokenizer), **settings).train()


@pytest.mark.promise(9)
def test_a_checkpoint_of_a_run_without_a_queue_is_refused(tokenizer, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    make_trainer(tmp_path, tokenizer, rows(tokenizer), queue_size=0, **settings).train()
    trainer = make_trainer(tmp_path, tokenizer, rows(tokenizer), **settings)
    with pytest.raises(ValueError, match=r"other settings: queue_size=None \(was 0\)"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(FileNotFoundError, match=r"no queue\.safetensors"):
        trainer.load_run_state(tmp_path / "checkpoint-2")
