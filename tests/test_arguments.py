"""Arguments that are no choice, wherever they come from."""

import json
import math
import re
from dataclasses import dataclass
from typing import Literal, get_type_hints

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations import is_deepspeed_zero3_enabled

from retort import (
    CKDTrainingArguments,
    ContrastiveTrainingArguments,
    DistillTrainingArguments,
    MCLTrainingArguments,
    Stage,
    VocabReducedMLMTrainingArguments,
)
from retort.recipes import parse_recipe
from retort.trainers.arguments import check_choices

ALL = (
    DistillTrainingArguments,
    ContrastiveTrainingArguments,
    CKDTrainingArguments,
    MCLTrainingArguments,
    VocabReducedMLMTrainingArguments,
)
OPEN = "trackio_static_space_id"  # a choice or any name
CHOSEN = [
    (kind, name)
    for kind in ALL
    for name, annotation in get_type_hints(kind).items()
    if "Literal" in str(annotation) and name != OPEN
]


def test_every_class_has_choices():
    assert {kind for kind, _ in CHOSEN} == set(ALL)
    assert (MCLTrainingArguments, "embedding_loss") in CHOSEN
    assert (DistillTrainingArguments, "teacher_pooler") in CHOSEN  # None or a choice


@pytest.mark.promise(9)
@pytest.mark.parametrize(("kind", "name"), CHOSEN)
def test_what_is_no_choice_is_refused_in_python(kind, name, tmp_path):
    with pytest.raises(ValueError, match=rf"^{name}='mae' is none of the choices '"):
        tiny.arguments(tmp_path, kind, **{name: "mae"})


@pytest.mark.promise(9)
def test_the_nearest_choice_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'kldiv' is none of the choices 'kl', 'mse', 'hard'\. Did you mean 'kl'\?"):
        tiny.arguments(tmp_path, logits_loss="kldiv")
    with pytest.raises(ValueError, match=r"'cls', .*'mean_first'\.$"):
        tiny.arguments(tmp_path, pooler="xyzzy")


@pytest.mark.promise(9)
def test_a_recipes_student_and_stages_are_checked_too():
    recipe = {
        "teacher": "x",
        "data": {"task": "tagging", "folders": "x"},
        "output_dir": "y",
        "stages": [{"name": "one"}],
    }
    with pytest.raises(ValueError, match=r"student\.embedding_init: .*pac.* Did you mean pca\?"):
        parse_recipe(recipe | {"student": {"embedding_init": "pac"}})
    with pytest.raises(ValueError, match=r"stages\.one.*gradual_unfreezing.*all"):
        parse_recipe(recipe | {"student": {}, "stages": [{"name": "one", "gradual_unfreezing": "all"}]})
    with pytest.raises(ValueError, match=r"The stage 'one': gradual_unfreezing='all' is none of .*'layers', None\."):
        Stage("one", {}, gradual_unfreezing="all")


@dataclass
class Choices:
    maybe: Literal["a", "b"] | None = None
    either: Literal[1, 2] | Literal["x"] = "x"
    free: str | Literal["auto"] | None = None


@given(
    st.none() | st.sampled_from("abcx"),
    st.sampled_from([1, 2, 3, "x", "a", None]),
    st.none() | st.text(),
)
def test_choices_are_those_of_the_annotation(maybe, either, free):
    allowed = maybe in ("a", "b", None) and either in (1, 2, "x")
    if allowed:
        check_choices(Choices(maybe, either, free))
    else:
        with pytest.raises(ValueError, match="is none of the choices"):
            check_choices(Choices(maybe, either, free))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0: it must be 1 or more"),
        ({"max_steps": 0}, "max_steps=0 trains nothing"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0: it must be 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0: it must be 0 or above"),
        ({"num_train_epochs": 0}, "num_train_epochs=0 must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan: it must be 0 or above"),
        ({"weight_decay": math.nan}, "weight_decay=nan: it must be 0 or above, and finite"),
        ({"max_grad_norm": math.nan}, "max_grad_norm=nan: it must be 0 or above, and finite"),
        ({"embedding_weight": math.nan}, "embedding_weight=nan: an objective's weight must be 0 (off) or above"),
        ({"relation_heads": 0}, "relation_heads=0: it must be 1 or more"),
        ({"relation_heads": -2}, "relation_heads=-2: it must be 1 or more"),
        ({"teacher_weights": [1.0, math.nan]}, "teacher_weights=[1.0, nan]: expected a list of finite numbers from 0"),
        ({"teacher_weights": [math.inf, 1.0]}, "teacher_weights=[inf, 1.0]: expected a list of finite numbers from 0"),
        ({"teacher_weights": [0.0, 0.0]}, "teacher_weights=[0.0, 0.0]: expected a list of finite numbers from 0, not"),
        ({"teacher_weights": ["1", "2"]}, "teacher_weights=['1', '2']: expected a list"),
        ({"teacher_weights": 1.0}, "teacher_weights=1.0: expected a list"),
        ({"teacher_weights": []}, "teacher_weights=[]: expected a list"),
    ],
)
def test_numbers_that_train_nothing_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        DistillTrainingArguments(str(tmp_path), **settings)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' is text, but must be a number. From YAML? It reads this"),
        ({"per_device_train_batch_size": "8"}, "per_device_train_batch_size='8' is text, but must be a whole number"),
        ({"per_device_train_batch_size": 8.0}, "per_device_train_batch_size=8.0 is of type float, but must be a whole"),
        ({"max_steps": "3"}, "max_steps='3' is text, but must be a whole number (int). Leave out the quotes."),
        ({"tokens_per_batch": "64"}, "tokens_per_batch='64' is text"),
        ({"embedding_weight": True}, "embedding_weight=True is of type bool, but must be a number."),
        ({"num_train_epochs": None}, "num_train_epochs=None is of type NoneType, but must be a number."),
    ],
)
def test_what_is_no_number_is_refused_by_name(settings, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DistillTrainingArguments(str(tmp_path), **settings)


def test_any_number_of_the_kind_is_one(tmp_path):
    settings = {"learning_rate": 1, "warmup_steps": np.float32(0.1), "max_steps": np.int64(3), "tokens_per_batch": None}
    args = DistillTrainingArguments(str(tmp_path), **settings)
    assert [type(each) for each in (args.max_steps, args.warmup_steps, args.learning_rate)] == [int, float, int]
    assert json.loads(args.to_json_string())["max_steps"] == 3


def test_steps_take_the_place_of_epochs(tmp_path):
    assert DistillTrainingArguments(str(tmp_path), num_train_epochs=0, max_steps=1).max_steps == 1


@pytest.mark.promise(9)
def test_a_refused_deepspeed_configuration_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json") as refused:
        DistillTrainingArguments(str(tmp_path), deepspeed="gone.json")
    assert refused.tb  # holds the configuration, which transformers would find
    assert not is_deepspeed_zero3_enabled()
