"""VocabReducedMLMTrainer against its formulas in float64, and what it refuses."""

import math

import pytest
import tiny
import torch
from datasets import Dataset
from jobs import OTHER_WORDS, REPOSITORY
from steps import gradient_of, step_of
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, EsmConfig, EsmForMaskedLM, PreTrainedTokenizerFast, pipeline

from retort import VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments, tokenize
from retort.data import tokenize_spans
from retort.modeling.vocabularies import spell


def texts(rows=40):
    return Dataset.from_dict({"text": tiny.sentences(rows)})


def make_trainer(tmp_path, *, rows=None, teacher=True, theirs=None, kind=OTHER_WORDS, **settings):
    ours, theirs = tiny.tokenizer(), theirs or tiny.tokenizer(kind)
    rows = rows or tokenize_spans(texts(), ours, teacher_tokenizer=theirs if teacher else None)
    defaults = {"max_steps": 3, "save_strategy": "no", "disable_dropout": True, "learning_rate": 3e-3}
    return VocabReducedMLMTrainer(
        tiny.model("bert", "masked_lm"),
        tiny.model("roberta", "masked_lm", seed=3, hidden=48, vocab_size=200) if teacher is True else teacher or None,
        tiny.arguments(tmp_path, VocabReducedMLMTrainingArguments, **defaults | settings),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=ours,
        teacher_processing_class=theirs if teacher else None,
    )


def logits_of(model, view, layout):
    """`[tokens, vocabulary]`, float64, from the model's own output layer on one row after another."""
    flat = layout.flatten(view["input_ids"]).split(layout.lengths.tolist())
    with torch.no_grad():
        return torch.cat([model(input_ids=row[None]).logits[0] for row in flat]).double()


def published(batch, ours, theirs, spelling, settings):
    """The divergence as the paper writes it, token by token of the teacher's."""
    size = len(spelling.counts)
    spelt = {token: spelling[token] for token in range(size) if spelling[token]}
    if settings["vocabulary_loss"] != "reduce_map":
        first = {}
        for token, pieces in spelt.items():
            if len(pieces) == 1:
                first.setdefault(pieces[0], token)
        spelt = {token: [piece] for piece, token in first.items()}
    joint = torch.logsumexp if settings.get("map_logits") == "logsumexp" else torch.sum
    spans, values = batch.spans, []
    for span in range(len(spans)):
        mine, yours = ((side == span).nonzero().flatten() for side in (spans.student, spans.teacher))
        if len(yours) != 1 or len(mine) == 0 or (settings["vocabulary_loss"] == "match" and len(mine) > 1):
            continue
        if settings.get("vocabulary_tokens") == "hidden" and not set(mine.tolist()) & set(batch.hidden.tolist()):
            continue
        logits = ours[mine].sum(0) if settings.get("piece_logits") == "sum" else ours[mine].mean(0)
        student = torch.stack([joint(logits[pieces], 0) for pieces in spelt.values()]) / 2.0
        teacher = theirs[yours[0]][list(spelt)] / 2.0
        values.append(4 * F.kl_div(student.log_softmax(0), teacher.log_softmax(0), log_target=True, reduction="sum"))
    return torch.stack(values).mean()


@pytest.mark.parametrize("attention_backend", ["auto", "padded"])
@pytest.mark.parametrize(
    "settings",
    [
        {"vocabulary_loss": "match"},
        {"vocabulary_loss": "reduce", "piece_logits": "sum"},
        {"vocabulary_loss": "reduce", "piece_logits": "mean", "vocabulary_tokens": "hidden"},
        {"vocabulary_loss": "reduce_map", "map_logits": "sum", "teacher_reads": "all"},
        {"vocabulary_loss": "reduce_map", "map_logits": "logsumexp", "piece_logits": "sum"},
    ],
    ids=str,
)
def test_the_loss_is_that_of_the_formulas(settings, attention_backend, tmp_path):
    weights = {"vocabulary_weight": 2.0, "mlm_weight": 0.5, "mask_share": 0.4}
    trainer = make_trainer(tmp_path, **settings, **weights, attention_backend=attention_backend)
    (batch,), counts = step_of(trainer, [7, 1, 4, 9, 2, 0])
    found = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    ours = logits_of(trainer.student, batch.student, batch.layout)
    theirs = logits_of(trainer.teacher.models[0], batch.teacher, batch.teacher_layout)
    spelling = spell(trainer._tokenizers[1], trainer._tokenizers[0]).without(trainer._tokenizers[1].all_special_ids)
    expected = 2 * published(batch, ours, theirs, spelling, settings)
    expected += 0.5 * F.cross_entropy(ours[batch.hidden], batch.hidden_tokens)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_bits_per_character_are_those_of_the_hidden_tokens(tmp_path):
    trainer = make_trainer(tmp_path, mask_share=0.3)
    metrics = trainer.evaluate()
    rows = [trainer.eval_dataset[i] for i in range(len(trainer.eval_dataset))]
    batch = trainer.read_batch(trainer.data_collator(rows), training=False)
    logits = logits_of(trainer.student, batch.student, batch.layout)
    nats = F.cross_entropy(logits[batch.hidden], batch.hidden_tokens, reduction="sum")
    characters = sum(
        int(count)
        for span, count in enumerate(batch.spans.characters)
        if set((batch.spans.student == span).nonzero().flatten().tolist()) & set(batch.hidden.tolist())
    )
    assert metrics["eval_bits_per_character"] == pytest.approx(nats.item() / math.log(2) / characters, rel=1e-4)


def test_smoothing_hides_the_share_of_the_text_that_was_asked_for(tmp_path):
    trainer = make_trainer(tmp_path, mask_share=0.2)
    tokens = torch.tensor([token for row in trainer.train_dataset["input_ids"] for token in row])
    text = tokens[~torch.isin(tokens, torch.tensor(trainer.processing_class.all_special_ids))]
    chances = trainer._masking[True].chances
    assert chances[text].mean().item() == pytest.approx(0.2)
    assert chances[text].unique().numel() > 1


def test_every_evaluation_hides_the_same_and_every_epoch_of_training_something_else(tmp_path):
    trainer = make_trainer(tmp_path)
    assert trainer.evaluate()["eval_loss"] == trainer.evaluate()["eval_loss"]
    rows = trainer.data_collator([trainer.train_dataset[i] for i in range(20)])
    places = [trainer.read_batch(rows, training=training).hidden.tolist() for training in (False, True, True)]
    trainer._epoch = 1
    places.append(trainer.read_batch(rows, training=True).hidden.tolist())
    assert places[1] == places[2]
    assert len(set(map(tuple, places))) == 3


def test_whole_words_are_the_same_for_students_of_other_vocabularies(tmp_path):
    hidden = []
    for kind in ("wordpiece", "bpe"):
        tokenizer = tiny.tokenizer(kind)
        rows = tokenize_spans(texts(), tokenizer)
        args = tiny.arguments(tmp_path, VocabReducedMLMTrainingArguments, vocabulary_weight=0, whole_words=True)
        student = tiny.model("bert", "masked_lm")
        trainer = VocabReducedMLMTrainer(student, None, args, train_dataset=rows, processing_class=tokenizer)
        batch = trainer.read_batch(trainer.data_collator([rows[i] for i in range(20)]), training=False)
        hidden.append(int(batch.hidden_characters))
    assert hidden[0] == hidden[1] > 0


@pytest.mark.promise(5)
def test_a_trained_student_is_a_stock_model_and_has_learnt(tmp_path):
    trainer = make_trainer(
        tmp_path, max_steps=60, vocabulary_loss="reduce_map", learning_rate=1e-2, contrast_weight=0.1, hidden_weight=0.1
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for name in ("eval_loss", "eval_loss_mlm", "eval_loss_vocabulary", "eval_bits_per_character"):
        assert after[name] < before[name]
    trainer.save_model()
    found = pipeline("fill-mask", model=str(tmp_path), tokenizer=str(tmp_path))("the cat [MASK] on")
    assert found[0]["score"] > 0
    stock = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(stock[name], tensor) for name, tensor in trainer.student.state_dict().items())


def test_a_teacher_is_trained_without_one(tmp_path):
    trainer = make_trainer(tmp_path, teacher=None, vocabulary_weight=0.0, max_steps=30, learning_rate=1e-2)
    before = trainer.evaluate()["eval_bits_per_character"]
    trainer.train()
    assert trainer.evaluate()["eval_bits_per_character"] < before


def test_a_batch_without_a_match_teaches_by_the_rest(tmp_path):
    rows = tokenize_spans(texts(16), tiny.tokenizer(), teacher_tokenizer=tiny.tokenizer(OTHER_WORDS))
    alone = rows.map(lambda row: {"teacher_spans": [-1] * len(row["teacher_spans"])})
    trainer = make_trainer(tmp_path, rows=alone, vocabulary_loss="match", hidden_weight=1.0, contrast_weight=1.0)
    result = trainer.train()
    assert math.isfinite(result.training_loss)
    assert trainer.state.log_history[0]["loss_vocabulary"] == 0
    assert trainer.state.log_history[0]["loss_mlm"] > 0


@pytest.mark.promise(9)
def test_a_teacher_whose_head_adds_a_bias_of_its_own_is_refused(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    teacher = EsmForMaskedLM(EsmConfig(vocab_size=200, mask_token_id=4, pad_token_id=0, **sizes))
    teacher.lm_head.bias.data.normal_()
    with pytest.raises(ValueError, match=r"EsmForMaskedLM .*a bias of the head"):
        make_trainer(tmp_path, teacher=teacher)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": [None, None]}, "2 teachers: distributions over a vocabulary are read from one"),
        ({"teacher": None}, "Pass the student's as processing_class"),
        ({"teacher_cache": "cache"}, "teacher_cache stores no logits over a vocabulary"),
        ({"mask_share": 1.0}, "between 0 and 1"),
        ({"mask_smoothing": -0.7}, "would mask frequent tokens more often"),
        ({"curvature": 0.0}, "must be above 0"),
        ({"attention_weight": 1.0}, "attn_implementation"),
        ({"relation_weight": 1.0, "relation_heads": 4}, "compares every pair of tokens"),
        ({"projector": "none", "contrast_weight": 1.0}, "projector='none' allows no projector"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **changes)


@pytest.mark.promise(9)
def test_rows_without_spans_are_refused(tmp_path):
    rows = tokenize(texts(), tiny.tokenizer(), teacher_tokenizer=tiny.tokenizer(OTHER_WORDS), align=True)
    with pytest.raises(ValueError, match=r"no spans, span_words, .*Call tokenize_spans first"):
        make_trainer(tmp_path, rows=rows)


@pytest.mark.promise(9)
@pytest.mark.parametrize("loss", ["reduce", "reduce_map"])
def test_vocabularies_with_nothing_in_common_but_special_tokens_are_refused(loss, tmp_path):
    vocabulary = {token: index for index, token in enumerate([*tiny.SPECIAL, *"0123456789"])}
    digits = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    digits.pre_tokenizer = Whitespace()
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    rows = tokenize_spans(texts(), tiny.tokenizer(), teacher_tokenizer=tiny.tokenizer(OTHER_WORDS))
    with pytest.raises(ValueError, match=r"no token in common|can't spell any of the"):
        make_trainer(
            tmp_path,
            rows=rows,
            theirs=PreTrainedTokenizerFast(tokenizer_object=digits, **roles),
            vocabulary_loss=loss,
        )


@pytest.mark.promise(9)
def test_zero_3_is_refused(tmp_path):
    trainer_arguments = {"deepspeed": str(REPOSITORY / "examples/deepspeed/zero3.json")}
    with pytest.raises(ValueError, match="Run under ZeRO-2"):
        make_trainer(tmp_path, **trainer_arguments)


@pytest.mark.parametrize("reads", ["masked", "all"])
def test_a_teacher_with_the_same_vocabulary_is_one_like_any_other(reads, tmp_path):
    settings = {"vocabulary_loss": "match", "contrast_weight": 1.0, "mask_smoothing": 0.0, "mask_share": 0.5}
    copy = tiny.model("bert", "masked_lm")
    trainer = make_trainer(tmp_path, teacher=copy, theirs=tiny.tokenizer(), teacher_reads=reads, **settings)
    loss = trainer.evaluate()["eval_loss_vocabulary"]
    assert (loss < 1e-5) == (reads == "masked")


def contrasted(batch, ours, theirs, settings):
    """The contrast as the paper means it, token by token; vectors are `[tokens, size]` of both sides."""
    alignment, unaligned = batch.alignment, settings["unaligned_negatives"]
    rows = {"student": batch.layout.row_ids, "teacher": batch.teacher_layout.row_ids}
    pairs = {"student": alignment.of_student(ours), "teacher": alignment.of_teacher(theirs)}
    pair_rows = rows["teacher"][alignment.teacher]
    vectors, aligned = (
        {"student": ours, "teacher": theirs},
        {"student": alignment.student, "teacher": alignment.teacher},
    )
    sides = ["student", "teacher"] if settings["negatives"] == "both" else [settings["negatives"]]
    anchors, positives = ("student", "teacher") if sides == ["teacher"] else ("teacher", "student")
    values = []
    for pair, row in enumerate(pair_rows):
        found = []
        for side in sides:
            found += [v for i, v in enumerate(pairs[side]) if i != pair and allowed(row, pair_rows[i], settings)]
            rest = [i for i in range(len(vectors[side])) if i not in aligned[side].tolist()] if unaligned else []
            found += [vectors[side][i] for i in rest if allowed(row, rows[side][i], settings)]
        anchor, positive = pairs[anchors][pair], pairs[positives][pair]
        cosines = F.cosine_similarity(anchor[None], torch.stack([positive, *found]).double()) / 0.1
        values.append(-cosines.log_softmax(0)[0])
    return torch.stack(values).mean()


def allowed(row, other, settings):
    return settings["negatives_within"] == "batch" or row == other


@pytest.mark.parametrize("unaligned", [False, True])
@pytest.mark.parametrize("within", ["text", "batch"])
@pytest.mark.parametrize("negatives", ["student", "teacher", "both"])
def test_the_contrast_of_tokens_is_that_of_the_formula(negatives, within, unaligned, tmp_path):
    settings = {"negatives": negatives, "negatives_within": within, "unaligned_negatives": unaligned}
    weights = {"contrast_weight": 1.0, "mlm_weight": 0.0, "vocabulary_weight": 0.0, "layer_map": "1:2"}
    # Words that one side cuts into letters, and the other doesn't, have tokens without a counterpart on both.
    trainer = make_trainer(tmp_path, vocabulary_loss="match", **settings, **weights)
    (batch,), counts = step_of(trainer, [7, 1, 4, 9])
    found = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    with torch.no_grad():
        student = trainer.model(batch.student, batch.layout)
    (states,), _ = student.compared[trainer.model.objectives["token_contrast"]]
    ours = states.double()
    theirs = trainer.teacher.outputs(batch).hidden_states[2].double()
    assert len(batch.alignment) < min(batch.layout.tokens, batch.teacher_layout.tokens)
    assert found.item() == pytest.approx(contrasted(batch, ours, theirs, settings).item(), rel=1e-4)


@pytest.mark.promise(3)
def test_drawn_negatives_are_the_same_in_any_batch(tmp_path):
    settings = {"negatives_within": "text", "negative_count": 2, "unaligned_negatives": True, "negatives": "both"}
    weights = {"contrast_weight": 1.0, "mlm_weight": 0.0, "vocabulary_weight": 0.0}
    weights |= {"vocabulary_loss": "match", "contrast_space": "hyperbolic"}
    trainer = make_trainer(tmp_path, **settings, **weights)
    parts = gradient_of(trainer, range(5), range(5, 6), range(6, 12))
    torch.testing.assert_close(parts, gradient_of(trainer, range(12)), rtol=1e-4, atol=1e-6)
    trainer._epoch = 1
    assert not torch.allclose(parts, gradient_of(trainer, range(12)), rtol=1e-2, atol=1e-4)
