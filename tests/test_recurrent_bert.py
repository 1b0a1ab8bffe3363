"""RecurrentBert against stock models, looped stock models, and ALBERT."""

import copy
import json
import logging
import os
from pathlib import Path

import pytest
import tiny
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForPreTraining,
)
from without_retort import run_without_retort

from retort import expand, shrink
from retort.modeling import encoder_layers, layers_name
from retort.modeling.architectures.recurrent_bert import RecurrentBertConfig
from retort.modeling.architectures.recurrent_bert.modeling_recurrent_bert import (
    RecurrentBertForMaskedLM,
    RecurrentBertForSequenceClassification,
    RecurrentBertForTokenClassification,
    RecurrentBertModel,
)
from retort.modeling.encoding import OutputRequest, TokenLayout, encode, supports_packing
from retort.trainers.stages.groups import parameter_groups

FAMILIES = ("bert", "roberta", "xlm-roberta")
CLASSES = {
    "encoder": (AutoModel, RecurrentBertModel),
    "masked_lm": (AutoModelForMaskedLM, RecurrentBertForMaskedLM),
    "token": (AutoModelForTokenClassification, RecurrentBertForTokenClassification),
    "sequence": (AutoModelForSequenceClassification, RecurrentBertForSequenceClassification),
}
LENGTHS = [5, 9, 2]


def padded_batch(side="right"):
    ids = torch.randint(5, tiny.VOCAB_SIZE, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = TokenLayout.from_lengths(LENGTHS, packed=False).mask.long()
    mask = mask if side == "right" else mask.flip(1)
    return {"input_ids": torch.where(mask.bool(), ids, 0), "attention_mask": mask}


def outputs(model, inputs):
    """What the model returns at the tokens."""
    with torch.no_grad():
        found = model(**inputs)[0]
    return found if found.dim() == 2 else found[inputs["attention_mask"].bool()]


def looped(teacher, kept, steps):
    """The reference: the teacher running some of its layers over and over."""
    model = copy.deepcopy(teacher)
    layers = encoder_layers(model)
    parent, name = layers_name(model).rpartition(".")[::2]
    setattr(model.get_submodule(parent), name, nn.ModuleList([layers[i] for i in kept] * steps))
    return model


def recurrent(task="encoder", family="bert", **sizes):
    """Two layers that run three times, with narrow word embeddings."""
    teacher = tiny.model(family, task, layers=3)
    return shrink(teacher, **{"layers": 2, "recurrent_steps": 3, "embedding_size": 8} | sizes)


# --- What it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", CLASSES)
def test_one_step_at_full_width_is_the_stock_model(task, family, side):
    teacher = tiny.model(family, task)
    student = shrink(teacher, recurrent_steps=1)
    assert type(student) is CLASSES[task][1]
    assert torch.equal(outputs(student, padded_batch(side)), outputs(teacher, padded_batch(side)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", CLASSES)
def test_several_steps_are_the_stock_model_with_its_layers_looped(task, family):
    teacher = tiny.model(family, task, layers=4)
    student = shrink(teacher, layers=[0, 3], recurrent_steps=3)
    assert (student.config.num_hidden_layers, student.config.num_unique_layers) == (6, 2)
    assert len(encoder_layers(student)) == 2
    found = outputs(student, padded_batch())
    assert torch.equal(found, outputs(looped(teacher, [0, 3], 3), padded_batch()))
    assert not torch.allclose(found, outputs(looped(teacher, [0, 0, 0, 3, 3, 3], 1), padded_batch()), atol=1e-4)


def test_albert_with_one_group_of_layers_computes_the_same():
    model = shrink(tiny.model("bert", layers=2), recurrent_steps=3)
    sizes = {name: getattr(model.config, name) for name in ("hidden_size", "num_attention_heads", "intermediate_size")}
    config = AlbertConfig(
        **sizes, embedding_size=32, num_hidden_layers=3, num_hidden_groups=1, inner_group_num=2, hidden_act="gelu"
    )
    albert = AlbertModel(config).eval().encoder
    names = {
        "attention.self.": "attention.",
        "attention.output.dense": "attention.dense",
        "attention.output.LayerNorm": "attention.LayerNorm",
        "intermediate.dense": "ffn",
        "output.dense": "ffn_output",
        "output.LayerNorm": "full_layer_layer_norm",
    }
    weights = {"embedding_hidden_mapping_in.weight": torch.eye(32), "embedding_hidden_mapping_in.bias": torch.zeros(32)}
    for index, layer in enumerate(encoder_layers(model)):
        for name, tensor in layer.state_dict().items():
            ours = next(old for old in names if name.startswith(old))
            theirs = name.replace(ours, names[ours])
            weights[f"albert_layer_groups.0.albert_layers.{index}.{theirs}"] = tensor
    albert.load_state_dict(weights)
    words = torch.randn(2, 7, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(words, None), albert(words, None).last_hidden_state)


def test_word_embeddings_are_the_best_of_their_rank_and_positions_are_added_at_full_width():
    teacher = tiny.model("bert")
    student = shrink(teacher, embedding_size=8)
    words = teacher.get_input_embeddings().weight.double()
    left, values, right = torch.linalg.svd(words, full_matrices=False)
    best = left[:, :8] * values[:8] @ right[:8]
    narrow, projection = student.get_input_embeddings().weight, student.embeddings.projection.weight
    assert (narrow.shape, projection.shape) == ((tiny.VOCAB_SIZE, 8), (32, 8))
    torch.testing.assert_close(narrow @ projection.T, best.float(), atol=1e-4, rtol=1e-4)
    ids, old = torch.tensor([[7, 9, 11]]), teacher.embeddings
    expected = best[ids].float() + old.position_embeddings.weight[:3] + old.token_type_embeddings.weight[0]
    torch.testing.assert_close(student.embeddings(ids), old.LayerNorm(expected), atol=1e-4, rtol=1e-4)


def test_masked_words_are_scored_by_the_word_embeddings_and_their_projection():
    model = recurrent("masked_lm")
    embeddings = model.recurrent_bert.embeddings
    assert model.head.decoder.weight is embeddings.word_embeddings.weight
    inputs = padded_batch()
    hidden = model.head.transform(model.recurrent_bert(**inputs).last_hidden_state)
    table = embeddings.word_embeddings.weight @ embeddings.projection.weight.T
    torch.testing.assert_close(model(**inputs).logits, hidden @ table.T + model.head.decoder.bias)


def test_a_random_start_keeps_the_layers_only():
    teacher = tiny.model("bert")
    torch.manual_seed(5)
    student = shrink(teacher, embedding_size=8, embedding_init="random")
    weights = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, weights[name])
        elif name in weights and tensor.dim() > 1 and name.startswith("embeddings."):
            assert tensor.shape != weights[name].shape or not torch.equal(tensor, weights[name])


def test_every_pass_has_its_hidden_state_and_its_attention():
    model = recurrent()
    model.set_attn_implementation("eager")
    inputs = padded_batch()
    found = model(**inputs, output_hidden_states=True, output_attentions=True)
    state = model.embeddings(inputs["input_ids"])
    mask = torch.where(inputs["attention_mask"].bool(), 0.0, torch.finfo(torch.float32).min)[:, None, None]
    states = [state]
    for index in range(6):
        state = encoder_layers(model)[index % 2](state, mask)
        states.append(state)
    assert (len(found.hidden_states), len(found.attentions)) == (7, 6)
    for ours, expected in zip(found.hidden_states, states, strict=True):
        torch.testing.assert_close(ours, expected)


def test_encode_takes_states_attentions_and_queries_of_any_pass():
    model = recurrent()
    model.set_attn_implementation("eager")
    inputs, layout = padded_batch(), TokenLayout.from_lengths(LENGTHS, packed=False)
    with torch.no_grad():
        request = OutputRequest(
            hidden_states=frozenset(range(7)), attentions=frozenset({4}), projections=frozenset({0, 4})
        )
        found = encode(model, inputs, layout, request)
        reference = model(**inputs, output_hidden_states=True, output_attentions=True)
        for index, state in found.hidden_states.items():
            assert torch.equal(state, layout.flatten(reference.hidden_states[index]))
        assert torch.equal(found.attentions[4], reference.attentions[4])
        for index in (0, 4):
            query = encoder_layers(model)[0].attention.self.query(found.hidden_states[index])
            torch.testing.assert_close(found.queries[index], query)
        early = encode(model, inputs, layout, OutputRequest(hidden_states=frozenset({3})), stop_early=True)
    assert torch.equal(early.hidden_states[3], found.hidden_states[3])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_packed_and_attends_in_any_way(family):
    model = recurrent(family=family)
    assert supports_packing(model)
    expected = outputs(model, padded_batch())
    model.set_attn_implementation("eager")
    torch.testing.assert_close(outputs(model, padded_batch()), expected)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = recurrent("token").train(checkpointing)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**padded_batch()).logits.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[1].values())
    torch.testing.assert_close(*gradients)


def test_embeddings_may_be_given_instead_of_ids_but_not_both_or_neither():
    model = recurrent()
    inputs = padded_batch()
    expected = outputs(model, inputs)
    words = model.get_input_embeddings()(inputs["input_ids"])
    found = outputs(model, {"inputs_embeds": words, "attention_mask": inputs["attention_mask"]})
    assert torch.equal(found, expected)
    for given in ({}, {"input_ids": inputs["input_ids"], "inputs_embeds": words}):
        with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
            model(**given)


def test_losses_are_those_of_transformers():
    inputs, layout = padded_batch(), TokenLayout.from_lengths(LENGTHS, packed=False)
    for task, classes in (("token", 3), ("masked_lm", tiny.VOCAB_SIZE)):
        labels = torch.where(layout.mask, inputs["input_ids"] % classes, -100)
        found = recurrent(task)(**inputs, labels=labels)
        expected = functional.cross_entropy(layout.flatten(found.logits), layout.flatten(labels))
        torch.testing.assert_close(found.loss, expected)
    labels = torch.tensor([0, 2, 1])
    found = recurrent("sequence")(**inputs, labels=labels)
    torch.testing.assert_close(found.loss, functional.cross_entropy(found.logits, labels))


# --- As a model of transformers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", CLASSES)
def test_the_auto_classes_build_and_load_it(task, tmp_path):
    auto_class, architecture = CLASSES[task]
    model = recurrent(task)
    assert type(auto_class.from_config(model.config)) is architecture
    model.save_pretrained(tmp_path)
    loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is architecture
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    assert type(AutoConfig.from_pretrained(tmp_path)) is RecurrentBertConfig
    assert torch.equal(outputs(loaded, padded_batch()), outputs(model, padded_batch()))


def test_the_vocabulary_can_grow_at_both_ends():
    model = recurrent("masked_lm")
    before = model.get_input_embeddings().weight.clone()
    model.resize_token_embeddings(tiny.VOCAB_SIZE + 4)
    assert model.head.decoder.weight is model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight[:-4], before)
    assert model(torch.full((1, 2), tiny.VOCAB_SIZE + 3)).logits.shape == (1, 2, tiny.VOCAB_SIZE + 4)


def test_its_unique_layers_are_groups_of_parameters():
    groups = parameter_groups(recurrent("masked_lm"))
    assert list(groups) == ["head", "layer.1", "layer.0", "embeddings"]
    assert len(groups["embeddings"]) == 6  # words, their projection, positions, types and a norm


@pytest.mark.parametrize(
    ("hidden", "embedding", "layers", "millions"),
    [
        (768, 128, 3, 54.3),
        (768, 128, 6, 75.6),
        (768, 256, 3, 86.4),
        (768, 256, 6, 107.7),
        (768, 768, 3, 214.3),
        (384, 128, 3, 37.7),
        (384, 128, 6, 43.0),
        (384, 256, 3, 69.8),
        (384, 256, 6, 75.1),
        (384, 384, 3, 101.7),
    ],
)
def test_published_students_have_the_published_sizes(hidden, embedding, layers, millions):
    """Ding et al. 2022: of XLM-R base (width 768) and of multilingual MiniLM (384), four, two or one times over."""
    is_xlmr = hidden == 768
    config = RecurrentBertConfig(
        vocab_size=250_002 if is_xlmr else 250_037,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        embedding_size=embedding,
        num_unique_layers=layers,
        max_position_embeddings=514 if is_xlmr else 512,
        type_vocab_size=1 if is_xlmr else 2,
        roberta_positions=is_xlmr,
    )
    with torch.device("meta"):
        model = RecurrentBertModel(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


# --- As a stock model -------------------------------------------------------------------------------------------------


@pytest.mark.promise(5)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", CLASSES)
def test_expanded_it_is_a_stock_model_with_the_same_outputs(task, family, tmp_path):
    student = recurrent(task, family)
    stock = expand(student)
    stock.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == ("bert" if family == "bert" else "xlm-roberta")
    assert not {"auto_map", "embedding_size", "num_unique_layers", "roberta_positions"} & config.keys()
    loaded, report = CLASSES[task][0].from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for side in ("right", "left"):
        torch.testing.assert_close(
            outputs(loaded, padded_batch(side)), outputs(student, padded_batch(side)), atol=1e-5, rtol=1e-5
        )


def test_expanding_says_what_it_costs(caplog):
    student = recurrent()
    with caplog.at_level(logging.INFO, logger="retort.modeling.architectures.recurrent_bert.expansion"):
        stock = expand(student)
    counts = [sum(p.numel() for p in model.parameters()) for model in (student, stock)]
    assert f"RecurrentBertModel: {counts[0]} parameters" in caplog.text
    assert f"as BertModel: {counts[1]} parameters" in caplog.text
    with pytest.raises(TypeError, match="BertModel, which is stock already"):
        expand(stock)


# Loads the students as their user would and writes down what comes out.
CONSUMER = """
import json, torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForMaskedLM, AutoTokenizer

torch.set_num_threads(1)
folder, sentences = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name in ("recurrent", "stock"):
    remote = {"trust_remote_code": name == "recurrent"}
    model = AutoModelForMaskedLM.from_pretrained(f"{folder}/{name}", **remote)
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/{name}", **remote)
    with torch.no_grad():
        found[name] = model(**tokenizer(sentences, padding=True, return_tensors="pt")).logits
    encoder = SentenceTransformer(f"{folder}/{name}", device="cpu", **remote)
    found[f"{name}-embedded"] = encoder.encode(sentences, convert_to_tensor=True)
save_file(found, f"{folder}/found.safetensors")
"""


@pytest.mark.promise(5)
def test_both_forms_give_the_same_where_retort_cannot_be_imported(tokenizer, tmp_path):
    sentences = tiny.sentences(7, seed=3)
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    student = recurrent("masked_lm")
    for name, model in (("recurrent", student), ("stock", expand(student))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    # Code that travels is copied into a cache before it is run: not into the user's.
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    run_without_retort(CONSUMER, str(tmp_path), json.dumps(sentences), environment=environment)
    found = load_file(tmp_path / "found.safetensors")
    with torch.no_grad():
        expected = student(**inputs).logits
    torch.testing.assert_close(found["recurrent"], expected)
    torch.testing.assert_close(found["stock"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["stock-embedded"], found["recurrent-embedded"], atol=1e-5, rtol=1e-5)


def test_the_code_that_travels_imports_only_what_transformers_brings():
    folder = Path(__file__).parents[1] / "modeling" / "architectures" / "recurrent_bert"
    for file in ("configuration_recurrent_bert.py", "modeling_recurrent_bert.py"):
        lines = (folder / file).read_text().splitlines()
        modules = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert modules <= {"torch", "transformers", "huggingface_hub", "dataclasses", "typing", ""}


# --- What can't be had ------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"recurrent_steps": 0}, "at least 1 step"),
        ({"embedding_size": 0}, "a size of 1 to 32"),
        ({"embedding_size": 33}, "a size of 1 to 32"),
        ({"recurrent_steps": 2, "embedding_init": "random"}, "Unknown embedding_init='random'"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        shrink(tiny.model("bert"), **sizes)


@pytest.mark.promise(9)
@pytest.mark.parametrize("family", ["distilbert", "electra", "mpnet", "modernbert"])
def test_other_families_are_refused(family):
    with pytest.raises(ValueError, match="BERT"):
        shrink(tiny.model(family), recurrent_steps=2)


@pytest.mark.promise(9)
def test_a_head_without_a_counterpart_is_refused():
    with pytest.raises(ValueError, match="BertForPreTraining has no counterpart"):
        shrink(BertForPreTraining(tiny.config("bert")), recurrent_steps=2)


@pytest.mark.promise(9)
def test_weights_of_another_embedding_size_are_refused(tmp_path):
    recurrent().save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModel.from_pretrained(tmp_path, embedding_size=5)


@pytest.mark.promise(9)
def test_a_configuration_whose_layers_don_t_add_up_is_refused():
    with pytest.raises(StrictDataclassClassValidationError, match="no multiple of num_unique_layers=5"):
        RecurrentBertConfig(num_hidden_layers=12, num_unique_layers=5)


@pytest.mark.parametrize("task", CLASSES)
def test_a_saved_one_is_a_teacher_whose_unique_layers_are_chosen_among(task, tmp_path):
    teacher = recurrent(task)
    teacher.save_pretrained(tmp_path)
    inputs = padded_batch()
    assert torch.equal(outputs(shrink(tmp_path), inputs), outputs(teacher, inputs))
    steps, last = teacher.config.num_recurrent_steps, teacher.config.num_unique_layers - 1
    student = shrink(tmp_path, layers=[last])
    assert (student.config.num_unique_layers, student.config.num_hidden_layers) == (1, steps)
    layers = encoder_layers(teacher)
    for layer in list(layers)[:last]:
        layer.load_state_dict(layers[last].state_dict())
    teacher.config.num_unique_layers, teacher.config.num_hidden_layers = 1, steps
    del layers[1:]
    assert torch.equal(outputs(student, inputs), outputs(teacher, inputs))


@pytest.mark.promise(9)
@pytest.mark.parametrize("asked", [{"recurrent_steps": 2}, {"embedding_size": 4}])
def test_a_recurrent_one_is_not_made_recurrent_again(asked):
    with pytest.raises(ValueError, match=r"is a RecurrentBertModel already\. .* expand"):
        shrink(recurrent(), **asked)
