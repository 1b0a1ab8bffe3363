"""All that a user may name as a teacher, and teachers that see the text in another way than the student."""

import re

import peft
import pytest
import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset

from retort import DistillTrainer, shrink, tokenize

WEIGHTS = {"logits_weight": 1.0, "hidden_weight": 1.0, "relation_weight": 1.0}


def rows(tokenizer, count=16, **options):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(count, seed=2)}), tokenizer, **options)


def trainer_of(folder, teacher, data, tokenizer, *, student=None, teacher_processing_class=None, **settings):
    args = tiny.arguments(
        folder / "run",
        max_steps=2,
        disable_dropout=True,
        save_strategy="no",
        relation_heads=4,
        **settings,
    )
    return DistillTrainer(
        student or shrink(tiny.model("bert", "token", layers=4), layers=2),
        teacher,
        args,
        train_dataset=data,
        processing_class=tokenizer,
        teacher_processing_class=teacher_processing_class,
    )


def loss_of(trainer):
    """Loss of a batch of all rows, and the gradient of the student."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    batches, counts = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=counts)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.student.parameters() if p.grad is not None])


def curve_of(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# --- A model, a folder, an adapter, several ---------------------------------------------------------------------------


def with_adapter(model, **options):
    """A LoRA whose matrices aren't zero, as after training."""
    settings = {"task_type": "TOKEN_CLS", "r": 2, "target_modules": ["query", "value"], "init_lora_weights": False}
    torch.manual_seed(3)
    return peft.get_peft_model(model, peft.LoraConfig(**settings | options))


@pytest.fixture
def teacher():
    return tiny.model("bert", "token", layers=4, seed=1)


@pytest.fixture
def base(teacher, tmp_path):
    """A teacher in a folder."""
    teacher.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_a_folder_teaches_what_the_model_in_it_teaches(teacher, base, tokenizer, tmp_path):
    data = rows(tokenizer)
    by_name = trainer_of(tmp_path, base, data, tokenizer, **WEIGHTS)
    by_model = trainer_of(tmp_path, teacher, data, tokenizer, **WEIGHTS)
    assert curve_of(by_name) == curve_of(by_model)


def test_an_adapter_is_merged_for_the_run_and_stays_as_it_was(base, tokenizer, tmp_path):
    adapted = with_adapter(type(tiny.model("bert", "token")).from_pretrained(base)).train()
    adapted.save_pretrained(tmp_path / "adapter")
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    data = rows(tokenizer)
    losses = [
        loss_of(trainer_of(tmp_path, source, data, tokenizer, **WEIGHTS))[0]
        for source in (adapted, tmp_path / "adapter")
    ]
    assert adapted.training
    assert [name for name, parameter in adapted.named_parameters() if parameter.requires_grad] == trainable != []
    after = adapted.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    merged = loss_of(trainer_of(tmp_path, adapted.merge_and_unload(), data, tokenizer, **WEIGHTS))[0]
    assert losses == pytest.approx([merged] * 2, rel=1e-5)
    plain = loss_of(trainer_of(tmp_path, base, data, tokenizer, **WEIGHTS))[0]
    assert abs(plain - merged) > 1e-3


@pytest.mark.parametrize("labels", [2, 3], ids=["as an encoder is saved", "as many as the adapter's"])
def test_an_adapter_may_bring_the_head_that_its_base_lacks(labels, tokenizer, tmp_path):
    whole = tiny.model("bert", "token", layers=4, seed=1)
    folder = tmp_path / "encoder"
    encoder = type(whole.base_model)(tiny.config("bert", layers=4, labels=labels))
    encoder.load_state_dict(whole.base_model.state_dict(), strict=False)
    encoder.save_pretrained(folder)
    whole.name_or_path = str(folder)
    adapted = with_adapter(whole)
    adapted.save_pretrained(tmp_path / "adapter")
    data = rows(tokenizer)
    loaded = loss_of(trainer_of(tmp_path, tmp_path / "adapter", data, tokenizer, **WEIGHTS))[0]
    merged = loss_of(trainer_of(tmp_path, adapted.merge_and_unload(), data, tokenizer, **WEIGHTS))[0]
    assert loaded == pytest.approx(merged, rel=1e-5)


@pytest.mark.promise(9)
def test_a_head_that_neither_adapter_nor_base_holds_is_refused(tokenizer, tmp_path):
    encoder = tiny.model("bert", layers=4)
    encoder.save_pretrained(tmp_path / "encoder")
    adapted = with_adapter(type(encoder).from_pretrained(tmp_path / "encoder"), task_type="FEATURE_EXTRACTION")
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="has no weights for classifier"):
        trainer_of(tmp_path, tmp_path / "adapter", rows(tokenizer), tokenizer, **WEIGHTS)


def test_a_list_may_mix_models_and_folders(teacher, base, tokenizer, tmp_path):
    other = tiny.model("bert", "token", layers=4, seed=2)
    data = rows(tokenizer)
    settings = {"logits_weight": 1.0, "logits_loss": "mse", "embedding_weight": 1.0, "embedding_loss": "mse"}
    trainer = trainer_of(tmp_path, [base, other], data, tokenizer, **settings)
    student = trainer.student
    expected = []
    with torch.no_grad():
        for row in data:
            tokens = {"input_ids": torch.tensor([row["input_ids"]]), "output_hidden_states": True}
            ours, *theirs = (model(**tokens) for model in (student, teacher, other))
            logits = sum(output.logits for output in theirs) / 2
            embedding = sum(output.hidden_states[-1].mean(1) for output in theirs) / 2
            expected.append(
                (
                    (ours.logits - logits).square().mean(-1).flatten(),
                    (ours.hidden_states[-1].mean(1) - embedding).square().mean(-1),
                )
            )
        by_hand = sum(torch.cat(parts).mean() for parts in zip(*expected, strict=True))
    assert loss_of(trainer)[0] == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.promise(9)
def test_a_pooler_that_the_folder_does_not_hold_is_refused_if_it_is_used(tokenizer, tmp_path):
    encoder = type(tiny.model("bert"))(tiny.config("bert", layers=4), add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "base")
    settings = {"student": tiny.model("bert"), "embedding_weight": 1.0}
    with pytest.raises(ValueError, match="has no weights for pooler"):
        trainer_of(tmp_path, tmp_path / "base", rows(tokenizer), tokenizer, pooler="cls", **settings)
    trainer_of(tmp_path, tmp_path / "base", rows(tokenizer), tokenizer, **settings)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, torch.float32),
        ({"bf16": True}, torch.bfloat16),
        ({"teacher_dtype": "bfloat16"}, torch.bfloat16),
        ({"bf16": True, "teacher_dtype": "float32"}, torch.float32),
    ],
)
def test_a_teacher_from_a_folder_has_the_dtype_asked_for(settings, dtype, base, tokenizer, tmp_path):
    data = rows(tokenizer)
    exact = curve_of(trainer_of(tmp_path, base, data, tokenizer, **WEIGHTS))
    trainer = trainer_of(tmp_path, base, data, tokenizer, **WEIGHTS | settings)
    assert {p.dtype for p in trainer.teacher.models[0].parameters()} == {dtype}
    assert {p.dtype for p in trainer.student.parameters()} == {torch.float32}
    curve = curve_of(trainer)
    assert curve == pytest.approx(exact, rel=0.05)
    assert (curve == exact) is (settings == {})


def test_a_teacher_in_half_precision_is_used_as_it_is(teacher, tokenizer, tmp_path):
    data = rows(tokenizer)
    exact = loss_of(trainer_of(tmp_path, teacher, data, tokenizer, **WEIGHTS))[0]
    trainer = trainer_of(tmp_path, teacher.to(torch.bfloat16), data, tokenizer, **WEIGHTS)
    assert trainer.teacher.models[0].dtype == torch.bfloat16
    assert loss_of(trainer)[0] == pytest.approx(exact, rel=0.05)


# --- Another architecture, another tokenizer --------------------------------------------------------------------------


@pytest.mark.promise(4)
@pytest.mark.parametrize("family", ["mpnet", "deberta-v2", "roberta"])
def test_a_teacher_that_counts_or_packs_otherwise_gives_the_loss_of_padding_both(family, tokenizer, tmp_path):
    teacher = tiny.model(family, "token", layers=4)
    data = rows(tokenizer)
    settings = WEIGHTS | {"embedding_weight": 1.0}
    packed = trainer_of(tmp_path, teacher, data, tokenizer, **settings)
    view = packed.data_collator.teacher
    assert packed.data_collator.student.packed
    assert (view.packed, view.position_offset) == (True, 1) if family == "roberta" else (False, 0)
    loss, gradient = loss_of(packed)
    padded = trainer_of(tmp_path, teacher, data, tokenizer, attention_backend="padded", **settings)
    assert not padded.data_collator.student.packed
    padded_loss, padded_gradient = loss_of(padded)
    assert loss == pytest.approx(padded_loss, rel=1e-5)
    torch.testing.assert_close(gradient, padded_gradient, rtol=1e-4, atol=1e-6)


def first_pieces(tokenizer, text):
    """Places of the tokens that begin a word, by the characters that they cover."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    places = []
    for word in re.finditer(r"\S+", text):
        # Byte-level tokens may begin with the space before their word.
        covering = [
            i for i, (start, end) in enumerate(encoded["offset_mapping"]) if start < word.end() and end > word.start()
        ]
        places.append(covering[0])
    return torch.tensor([encoded["input_ids"]]), places


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("attention_backend", ["auto", "padded"])
def test_two_tokenizers_are_compared_at_the_first_piece_of_each_word(attention_backend, family, tokenizer, tmp_path):
    other = tiny.tokenizer("bpe", vocab_size=120)
    teacher = tiny.model(family, "token", layers=4, vocab_size=120)
    student = shrink(tiny.model("bert", "token", layers=4), layers=2)
    data = rows(tokenizer, teacher_tokenizer=other, align=True)
    settings = {"hidden_weight": 2.0, "layer_map": "1:3,2:4", "logits_weight": 1.0, "temperature": 2.0}
    settings |= {"student": student, "teacher_processing_class": other, "attention_backend": attention_backend}
    trainer = trainer_of(tmp_path, teacher, data, tokenizer, **settings)
    hidden, logits = [], []
    with torch.no_grad():
        for text in tiny.sentences(16, seed=2):
            sides = []
            for model, used in ((student, tokenizer), (teacher, other)):
                tokens, places = first_pieces(used, text)
                output = model(input_ids=tokens, output_hidden_states=True)
                sides.append(([state[0, places] for state in output.hidden_states], output.logits[0, places] / 2))
            (ours, our_logits), (theirs, their_logits) = sides
            distances = [(ours[i] - theirs[j]).square().mean(-1) for i, j in ((1, 3), (2, 4))]
            hidden.append(sum(distances) / 2)
            p, q = their_logits.softmax(-1), our_logits.log_softmax(-1)
            logits.append(4 * F.kl_div(q, p, reduction="none").sum(-1))
    expected = 2 * torch.cat(hidden).mean() + torch.cat(logits).mean()
    assert loss_of(trainer)[0] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "modernbert"])
def test_a_teacher_reads_the_token_types_of_pairs_though_its_student_has_none(family, tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    data = Dataset.from_dict({"text": tiny.sentences(8), "pair": tiny.sentences(8, seed=5)})
    data = tokenize(data, tokenizer, text_pair="pair")
    teacher = tiny.model("bert", "sequence", layers=4)
    student = tiny.model(family, "sequence", layers=2)
    settings = {"logits_weight": 1.0, "logits_loss": "mse"}
    trainer = trainer_of(tmp_path, teacher, data, tokenizer, student=student, **settings)
    errors = []
    with torch.no_grad():
        for row in data:
            tokens = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids")}
            assert tokens["token_type_ids"].any()
            errors.append((student(tokens["input_ids"]).logits - teacher(**tokens).logits).square().mean())
    assert curve_of(trainer)[0] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
