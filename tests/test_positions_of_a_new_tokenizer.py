"""Students with their own tokenizer, of families whose positions start after the padding token's id."""

import pytest
import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from retort import shrink
from retort.modeling.encoding import position_count, position_offset
from retort.modeling.shrinking import vocabulary
from retort.modeling.shrinking.vocabulary import shared_tokens
from retort.modeling.vocabularies import Spelling

SIZES = {
    "vocab_size": tiny.VOCAB_SIZE,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
OWN = {"luke": {"entity_vocab_size": 10, "entity_emb_size": 16}, "esm": {"mask_token_id": 4}}
TEXTS = ["the cat sat on the mat", "old song in the river wind"]


def build(family, padding=0):
    torch.manual_seed(0)
    settings = SIZES | OWN.get(family, {}) | {"pad_token_id": padding}
    model = AutoModel.from_config(CONFIG_MAPPING[family](**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def with_specials_at(**places):
    """The wordpieces of `tiny`, with the special tokens at these ids and all other tokens around them."""
    at = {f"[{name.upper()}]": place for name, place in places.items()}
    others = iter(name for name in tiny.wordpiece_vocabulary(tiny.WORDS[::2]) if name not in at)
    names, total = {place: name for name, place in at.items()}, len(tiny.wordpiece_vocabulary(tiny.WORDS[::2]))
    vocabulary = {names[index] if index in names else next(others): index for index in range(total)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask") if name in places}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


USUAL = with_specials_at(pad=0, unk=1, cls=2, sep=3, mask=4)
MPNETS = with_specials_at(cls=0, pad=1, sep=2, unk=3, mask=4)


def outputs(model, tokenizer):
    """Of padded rows, without the padding."""
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.no_grad():
        return model(**inputs)[0][inputs["attention_mask"].bool()]


# Behind the last row of the table, before it, and after another offset.
@pytest.mark.parametrize(("before", "after"), [(0, 7), (0, 70), (7, 0)])
@pytest.mark.parametrize("family", ["roberta", "ibert", "luke", "lilt"])
def test_another_padding_token_moves_all_tables_of_positions(family, before, after):
    places = {"unk": 1, "cls": 2, "sep": 3, "mask": 4}
    old, new = with_specials_at(pad=before, **places), with_specials_at(pad=after, **places)
    teacher = build(family, before)
    student = shrink(teacher, tokenizer=new, teacher_tokenizer=old)
    assert (position_offset(teacher), position_offset(student)) == (before + 1, after + 1)
    assert position_count(teacher) == position_count(student) == 40 - before - 1
    torch.testing.assert_close(outputs(student, new), outputs(teacher, old), rtol=0, atol=1e-5)


def test_entities_keep_their_positions_when_those_of_words_move():
    teacher = build("luke")
    student = shrink(teacher, tokenizer=with_specials_at(pad=7, unk=1, cls=2, sep=3, mask=4), teacher_tokenizer=USUAL)
    before, after = (model.entity_embeddings.position_embeddings.weight for model in (teacher, student))
    assert torch.equal(after[:40], before)
    assert not after[40:].any()


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("places", "found"),
    [
        ({"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}, r"token 1 is '\[UNK\]', and the padding token is 0"),
        ({"pad": 2, "unk": 0, "cls": 3, "sep": 4, "mask": 5}, r"token 1 is 'a', and the padding token is 2"),
    ],
)
def test_a_family_with_its_own_padding_id_refuses_other_tokenizers(places, found):
    new = with_specials_at(**places)
    with pytest.raises(ValueError, match=rf"MPNetModel takes token 1 for padding.*{found}.*padding token is 1"):
        shrink(build("mpnet", 1), tokenizer=new, teacher_tokenizer=MPNETS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (MPNETS, with_specials_at(pad=1, unk=6, cls=0, sep=2, mask=4)),
        # Token 1 is no padding token, but it is the same token in both.
        (USUAL, with_specials_at(pad=0, unk=1, cls=20, sep=3, mask=4)),
    ],
)
def test_a_family_with_its_own_padding_id_takes_tokenizers_that_agree_on_it(old, new):
    teacher = build("mpnet", old.pad_token_id)
    student = shrink(teacher, tokenizer=new, teacher_tokenizer=old)
    torch.testing.assert_close(outputs(student, new), outputs(teacher, old), rtol=0, atol=1e-5)


@pytest.mark.promise(9)
def test_positions_that_start_at_padding_need_a_padding_token():
    new = with_specials_at(unk=1, cls=2, sep=3, mask=4)
    assert new.pad_token_id is None
    with pytest.raises(ValueError, match=r"no padding token\. Set tokenizer\.pad_token"):
        shrink(build("roberta"), tokenizer=new, teacher_tokenizer=USUAL)
    shrink(build("bert"), tokenizer=new, teacher_tokenizer=USUAL)


@pytest.mark.promise(9)
@pytest.mark.parametrize("layers", [None, 1])
def test_a_student_that_reads_the_same_tokens_in_another_way_does_not_pass_the_probe(layers, monkeypatch):
    new = with_specials_at(pad=7, unk=1, cls=2, sep=3, mask=4)
    monkeypatch.setattr(vocabulary, "_with_positions", lambda draft, *_: draft)
    with pytest.raises(ValueError, match=r"other hidden states .* for the same tokens .* Leave tokenizer out"):
        shrink(build("roberta"), layers=layers, tokenizer=new, teacher_tokenizer=USUAL)


def test_tokenizers_that_share_no_token_are_not_probed():
    assert shared_tokens(Spelling(torch.tensor([5, 6, 7]), torch.tensor([2, 1, 0])), USUAL, USUAL) == []
    assert shared_tokens(Spelling(torch.tensor([9, 8]), torch.tensor([0] * 5 + [1, 1])), USUAL, USUAL) == [
        (5, 9),
        (6, 8),
    ]
