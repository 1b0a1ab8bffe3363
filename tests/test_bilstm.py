"""The BiLSTM encoder against torch's own bidirectional LSTM, run row by row without padding."""

import json
import os
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
from without_retort import run_without_retort

from retort.modeling import encoder_layers, layers_name
from retort.modeling.architectures.bilstm import (
    BiLstmConfig,
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
)
from retort.modeling.architectures.bilstm.modeling_bilstm import BiLstmModel
from retort.modeling.encoding import OutputRequest, TokenLayout, encode, supports_packing
from retort.trainers.objectives import Dimensions

LENGTHS = [5, 9, 1, 3]
CLASSES = {
    AutoModel: BiLstmModel,
    AutoModelForTokenClassification: BiLstmForTokenClassification,
    AutoModelForSequenceClassification: BiLstmForSequenceClassification,
}


def config(*, layers=2, labels=3, **extra):
    return BiLstmConfig(
        vocab_size=tiny.VOCAB_SIZE,
        embedding_size=6,
        lstm_hidden_size=5,
        num_hidden_layers=layers,
        hidden_size=8,
        num_labels=labels,
        **extra,
    )


def bilstm(architecture=BiLstmModel, **settings):
    """In float64, without dropout, and with weights so large that no two states look alike."""
    torch.manual_seed(0)
    model = architecture(config(**settings)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 3)
    return model


def padded_batch(width=9):
    """Rows of `LENGTHS` tokens; the padding holds words as well, which must not be read."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, tiny.VOCAB_SIZE, (len(LENGTHS), max(LENGTHS)), generator=generator)
    layout = TokenLayout.from_lengths(LENGTHS, packed=False, width=width)
    ids = functional.pad(ids, (0, width - ids.shape[1]), value=7)
    return {"input_ids": ids, "attention_mask": layout.mask.long()}, layout


def torch_lstm(model, depth):
    """torch's bidirectional LSTM with the weights of the first `depth` layers."""
    settings = model.config
    lstm = nn.LSTM(
        settings.embedding_size, settings.lstm_hidden_size, depth, bidirectional=True, batch_first=True
    ).double()
    weights = {}
    for index, layer in enumerate(encoder_layers(model)[:depth]):
        for direction, suffix in ((layer.forward_lstm, ""), (layer.backward_lstm, "_reverse")):
            for name, tensor in direction.state_dict().items():
                weights[name.replace("_l0", f"_l{index}{suffix}")] = tensor
    lstm.load_state_dict(weights)
    return lstm


def encoded_by_torch(model, row):
    """All hidden states of one row `[seq]` without padding, and what is made of its last ones."""
    encoder = model.base_model
    words = encoder.get_input_embeddings()(row)
    states = [words]
    for depth in range(1, model.config.num_hidden_layers + 1):
        output, (final, _) = torch_lstm(model, depth)(words[None])
        states.append(output[0])
    states[-1] = functional.gelu(encoder.projector(states[-1]))
    return states, functional.gelu(encoder.projector(final[-2:].flatten()))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_hidden_state_is_that_of_torch_without_padding(layers):
    model = bilstm(layers=layers)
    inputs, _ = padded_batch()
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
        assert [state.shape[-1] for state in output.hidden_states] == [6, *[10] * (layers - 1), 8]
        for row, length in enumerate(LENGTHS):
            states, final = encoded_by_torch(model, inputs["input_ids"][row, :length])
            for ours, theirs in zip(output.hidden_states, states, strict=True):
                torch.testing.assert_close(ours[row, :length], theirs)
            torch.testing.assert_close(output.pooler_output[row], final)
    assert output.last_hidden_state is output.hidden_states[-1]


@pytest.mark.promise(4)
@pytest.mark.parametrize("architecture", [BiLstmForTokenClassification, BiLstmForSequenceClassification])
def test_more_padding_changes_neither_logits_nor_gradients(architecture):
    results = []
    for width in (9, 16):
        model = bilstm(architecture)
        inputs, layout = padded_batch(width)
        logits = model(**inputs).logits
        logits = logits if logits.dim() == 2 else layout.flatten(logits)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*results)


def test_the_gradient_is_that_of_torch_row_by_row():
    model, reference = bilstm(layers=1), bilstm(layers=1)
    inputs, layout = padded_batch()
    layout.flatten(model(**inputs).last_hidden_state).square().sum().backward()
    lstm = torch_lstm(reference, 1)
    words = reference.get_input_embeddings()
    for row, length in enumerate(LENGTHS):
        output, _ = lstm(words(inputs["input_ids"][row, :length])[None])
        functional.gelu(reference.projector(output)).square().sum().backward()
    torch.testing.assert_close(model.get_input_embeddings().weight.grad, words.weight.grad)
    torch.testing.assert_close(model.projector.weight.grad, reference.projector.weight.grad)
    layer = model.layers[0]
    for direction, suffix in ((layer.forward_lstm, ""), (layer.backward_lstm, "_reverse")):
        for name, parameter in direction.named_parameters():
            torch.testing.assert_close(parameter.grad, getattr(lstm, f"{name}{suffix}").grad)


def test_without_a_mask_every_token_counts():
    model = bilstm()
    ids = padded_batch()[0]["input_ids"]
    torch.testing.assert_close(
        model(ids).pooler_output, model(ids, attention_mask=torch.ones_like(ids)).pooler_output, rtol=0, atol=0
    )


def test_embeddings_may_be_given_instead_of_ids():
    model = bilstm()
    inputs, _ = padded_batch()
    expected = model(**inputs).last_hidden_state
    words = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert torch.equal(model(inputs_embeds=words, **inputs).last_hidden_state, expected)


@pytest.mark.parametrize("given", [{}, {"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 6)}])
def test_neither_and_both_of_ids_and_embeddings_are_refused(given):
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        bilstm()(**given)


@pytest.mark.promise(9)
@pytest.mark.parametrize("row", [[0, 1, 1], [1, 0, 1], [0, 0, 0]], ids=["left-padded", "with a hole", "empty"])
def test_a_mask_that_is_not_right_padded_is_refused(row):
    ids = torch.full((2, 3), 7)
    with pytest.raises(ValueError, match=r"not right-padded .*padding_side='right'"):
        bilstm()(ids, attention_mask=torch.tensor([[1, 1, 1], row]))


def test_dropout_falls_on_the_embeddings_on_every_layer_and_before_the_classifier():
    model = bilstm(BiLstmForTokenClassification, hidden_dropout_prob=0.5)
    inputs, _ = padded_batch()
    read = []
    model.classifier.register_forward_pre_hook(lambda module, arguments: read.append(arguments[0]))
    embeddings, *outputs = model.train()(**inputs, output_hidden_states=True).hidden_states
    for state in (embeddings, outputs[0], *read):
        assert 0.3 < (state == 0).double().mean() < 0.7
    assert not any((state == 0).any() for state in model.eval()(**inputs, output_hidden_states=True).hidden_states)


def test_a_model_in_eval_mode_can_be_trained_by_cudnn():
    """On a GPU, `backward` through an LSTM in eval mode raises; a frozen or dropout-free student is in eval mode."""
    model = bilstm()
    modes = []
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            module.register_forward_hook(lambda module, *_: modes.append(module.training))
    inputs, _ = padded_batch()
    model.eval()(**inputs)
    with torch.no_grad():
        model.train()(**inputs)
    assert modes == [True] * 4 + [False] * 4


def test_the_loss_of_tokens_leaves_out_the_label_of_minus_100():
    model = bilstm(BiLstmForTokenClassification)
    inputs, layout = padded_batch()
    labels = torch.where(layout.mask, inputs["input_ids"] % 3, -100)
    output = model(**inputs, labels=labels)
    expected = functional.cross_entropy(layout.flatten(output.logits), layout.flatten(labels))
    assert output.loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("outputs", "labels", "loss"),
    [
        (3, torch.tensor([0, 2, 1, 1]), functional.cross_entropy),
        (1, torch.tensor([0.5, -1.0, 2.0, 0.0]).double(), lambda logits, y: functional.mse_loss(logits[:, 0], y)),
        (3, torch.eye(4, 3).double(), functional.binary_cross_entropy_with_logits),
    ],
    ids=["classes", "a number", "several classes at a time"],
)
def test_the_loss_of_rows_is_the_one_that_fits_the_labels(outputs, labels, loss):
    model = bilstm(BiLstmForSequenceClassification, labels=outputs)
    inputs, _ = padded_batch()
    output = model(**inputs, labels=labels)
    assert output.loss.item() == pytest.approx(loss(output.logits, labels).item())


def test_outputs_come_as_a_tuple_where_that_is_asked_for():
    inputs, _ = padded_batch()
    for architecture in CLASSES.values():
        model = bilstm(architecture)
        assert torch.equal(model(**inputs, return_dict=False)[0], model(**inputs)[0])


def test_fresh_weights_are_drawn_as_keras_draws_them():
    torch.manual_seed(0)
    model = BiLstmModel(config())
    for layer in model.layers:
        for lstm in (layer.forward_lstm, layer.backward_lstm):
            torch.testing.assert_close(lstm.weight_hh_l0.T @ lstm.weight_hh_l0, torch.eye(5))
            assert lstm.bias_ih_l0.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10  # the second gate is the forget gate
            assert not lstm.bias_hh_l0.any()
    assert not model.get_input_embeddings().weight[model.config.pad_token_id].any()


def test_the_vocabulary_can_grow():
    model = bilstm(BiLstmForTokenClassification)
    before = model.get_input_embeddings().weight.clone()
    model.resize_token_embeddings(tiny.VOCAB_SIZE + 4)
    assert model.config.vocab_size == tiny.VOCAB_SIZE + 4
    assert torch.equal(model.get_input_embeddings().weight[:-4], before)
    assert model(torch.full((1, 2), tiny.VOCAB_SIZE + 3)).logits.shape == (1, 2, 3)


@pytest.mark.parametrize("auto_class", CLASSES)
def test_the_auto_classes_build_and_load_it(auto_class, tmp_path):
    assert type(auto_class.from_config(config())) is CLASSES[auto_class]
    model = bilstm(CLASSES[auto_class], hidden_dropout_prob=0.25).float()
    model.save_pretrained(tmp_path)
    loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is CLASSES[auto_class]
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    assert type(AutoConfig.from_pretrained(tmp_path)) is BiLstmConfig
    weights = model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in loaded.state_dict().items())


def test_a_classifier_on_a_saved_encoder_is_the_only_thing_that_is_new(tmp_path):
    encoder = bilstm().float()
    encoder.save_pretrained(tmp_path)
    model, report = AutoModelForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    for name, tensor in model.bilstm.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("architecture", [BiLstmForTokenClassification, BiLstmForSequenceClassification])
def test_encode_takes_the_states_that_transformers_returns(architecture, layers):
    model = bilstm(architecture, layers=layers)
    inputs, layout = padded_batch()
    everything = frozenset(range(layers + 1))
    with torch.no_grad():
        output = encode(model, inputs, layout, OutputRequest(logits=True, hidden_states=everything))
        reference = model(**inputs, output_hidden_states=True)
    expected = reference.logits if reference.logits.dim() == 2 else layout.flatten(reference.logits)
    assert torch.equal(output.logits, expected)
    for index, state in output.hidden_states.items():
        assert torch.equal(state, layout.flatten(reference.hidden_states[index]))


def test_it_has_layers_but_no_attention_and_is_not_packed():
    model = bilstm(BiLstmForTokenClassification)
    assert layers_name(model) == "bilstm.layers"
    assert len(encoder_layers(model)) == 2
    assert supports_packing(model) is False
    assert Dimensions.of(model.config) == Dimensions(2, 8, 0, ("LABEL_0", "LABEL_1", "LABEL_2"), tiny.VOCAB_SIZE, 8)


# Loads two folders as their user would, saves them again, and writes down what comes out.
CONSUMER = """
import json, torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

torch.set_num_threads(1)
folder, sentences = sys.argv[1], json.loads(sys.argv[2])
tensors, found = {}, {}
for task, auto_class in (
    ("token-classification", AutoModelForTokenClassification),
    ("text-classification", AutoModelForSequenceClassification),
):
    for name in (task, task + "-again"):
        model = auto_class.from_pretrained(f"{folder}/{name}", trust_remote_code=True)
        tokenizer = AutoTokenizer.from_pretrained(f"{folder}/{name}", trust_remote_code=True)
        with torch.no_grad():
            tensors[name] = model(**tokenizer(sentences, padding=True, return_tensors="pt")).logits
        model.save_pretrained(f"{folder}/{task}-again")
        tokenizer.save_pretrained(f"{folder}/{task}-again")
    found[task] = pipeline(task, model=f"{folder}/{task}", trust_remote_code=True)(sentences)
save_file(tensors, f"{folder}/tensors.safetensors")
print(json.dumps(found, default=float))
"""


@pytest.mark.promise(5)
def test_a_saved_student_gives_the_same_where_retort_cannot_be_imported(tokenizer, tmp_path):
    sentences = tiny.sentences(7, seed=3)
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    models = {
        "token-classification": bilstm(BiLstmForTokenClassification).float(),
        "text-classification": bilstm(BiLstmForSequenceClassification).float(),
    }
    for task, model in models.items():
        model.save_pretrained(tmp_path / task)
        tokenizer.save_pretrained(tmp_path / task)
    # Code that travels is copied into a cache before it is run: not into the user's.
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    printed = run_without_retort(CONSUMER, str(tmp_path), json.dumps(sentences), environment=environment)
    found = json.loads(printed.strip().splitlines()[-1])
    seen = load_file(tmp_path / "tensors.safetensors")
    logits = {}
    for task, model in models.items():
        with torch.no_grad():
            logits[task] = model(**inputs).logits
        torch.testing.assert_close(seen[task], logits[task])
        assert torch.equal(seen[f"{task}-again"], seen[task])
    classes = [row["label"] for row in found["text-classification"]]
    assert classes == [f"LABEL_{index}" for index in logits["text-classification"].argmax(-1).tolist()]
    for row, entities in enumerate(found["token-classification"]):
        length = int(inputs["attention_mask"][row].sum())
        best = logits["token-classification"][row, 1 : length - 1].argmax(-1).tolist()  # [CLS] and [SEP] are left out
        assert [entity["entity"] for entity in entities] == [f"LABEL_{index}" for index in best]


def test_the_code_that_travels_imports_only_torch_and_transformers():
    folder = Path(__file__).parents[1] / "modeling" / "architectures" / "bilstm"
    for file in ("configuration_bilstm.py", "modeling_bilstm.py"):
        lines = (folder / file).read_text().splitlines()
        modules = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert modules <= {"torch", "transformers", "typing", ""}
