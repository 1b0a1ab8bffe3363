"""ONNX files against the PyTorch models that they were made of."""

import math
import os
import sys
from types import SimpleNamespace

import onnx
import pytest
import tiny
import torch
from processes import run
from scripts import run_command
from torch import nn
from transformers import AutoTokenizer
from transformers.modeling_outputs import TokenClassifierOutput

from retort import shrink
from retort.evaluation import Footprint, Tagger
from retort.modeling.architectures.bilstm import (
    BiLstmConfig,
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
)
from retort.modeling.onnx import OnnxModel, export_onnx, onnx_agreement, open_session, quantize_int8
from retort.modeling.onnx.export import TOLERANCE

FLOAT = onnx.TensorProto.FLOAT
# Above the number of rows and the width that files are traced at, and below.
BATCHES = ((1, 1), (2, 2), (7, 3), (20, 4))


def padded(tokenizer, rows, seed, *names):
    """Sentences of different lengths as forward arguments, those named or, without names, all."""
    inputs = tokenizer(tiny.sentences(rows, seed=seed), padding=True, return_tensors="pt")
    return {name: tensor for name, tensor in inputs.items() if not names or name in names}


@pytest.fixture(scope="module")
def pair_tokenizer():
    """A tokenizer that tells the two texts of a pair by their types."""
    tokenizer = tiny.tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask", "token_type_ids"]
    return tokenizer


def assert_same_outputs(model, tokenizer, folder, *names):
    exported = OnnxModel(folder)
    for rows, seed in BATCHES:
        inputs = padded(tokenizer, rows, seed, *names)
        with torch.no_grad():
            (name, expected), *_ = model(**inputs).items()
        found = getattr(exported(**inputs), name)
        assert found.shape == expected.shape
        real = inputs["attention_mask"].bool() if expected.dim() == 3 else slice(None)
        torch.testing.assert_close(found[real], expected[real], rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("task", ["encoder", "token", "sequence"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_gives_the_outputs_of_pytorch_at_other_shapes_than_it_was_traced_at(
    family, task, pair_tokenizer, tmp_path
):
    model = tiny.model(family, task)
    model.save_pretrained(tmp_path)
    assert export_onnx(model, pair_tokenizer, tmp_path) == tmp_path / "model.onnx"
    # Without token types, which taggers are not given: files that take them read zeros, as PyTorch's models do.
    assert_same_outputs(model, pair_tokenizer, tmp_path, "input_ids", "attention_mask")


@pytest.mark.parametrize("task", ["encoder", "masked_lm", "token", "sequence"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_recurrent_layers_and_narrow_words_give_the_outputs_of_pytorch(family, task, tokenizer, tmp_path):
    model = shrink(tiny.model(family, task), recurrent_steps=3, embedding_size=8)
    model.save_pretrained(tmp_path)
    export_onnx(model, tokenizer, tmp_path)
    assert_same_outputs(model, tokenizer, tmp_path, "input_ids", "attention_mask")


@pytest.mark.parametrize("model_class", [BiLstmForTokenClassification, BiLstmForSequenceClassification])
def test_lstms_give_the_outputs_of_pytorch_and_are_quantised(model_class, tokenizer, tmp_path):
    torch.manual_seed(0)
    sizes = {"embedding_size": 24, "lstm_hidden_size": 20, "hidden_size": 32, "num_hidden_layers": 2}
    model = model_class(BiLstmConfig(vocab_size=tiny.VOCAB_SIZE, num_labels=3, **sizes)).eval()
    model.save_pretrained(tmp_path)
    export_onnx(model, tokenizer, tmp_path)
    assert_same_outputs(model, tokenizer, tmp_path, "input_ids", "attention_mask")
    nodes = [node.op_type for node in onnx.load(quantize_int8(tmp_path)).graph.node]
    assert nodes.count("DynamicQuantizeLSTM") == 4
    assert "LSTM" not in nodes


def test_the_types_of_tokens_are_an_input_where_tokenizer_and_model_have_them(pair_tokenizer, tmp_path):
    model = tiny.model("bert", "sequence")
    model.save_pretrained(tmp_path)
    export_onnx(model, pair_tokenizer, tmp_path)
    pair = dict(pair_tokenizer(["the cat"], ["a big dog"], return_tensors="pt"))
    exported = OnnxModel(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(exported(**pair).logits, model(**pair).logits, rtol=1e-4, atol=1e-4)
    one_text = {name: tensor for name, tensor in pair.items() if name != "token_type_ids"}
    assert not torch.allclose(exported(**one_text).logits, exported(**pair).logits, atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_tagger_tags_alike_with_an_onnx_model(family, pair_tokenizer, tmp_path):
    model = tiny.model(family, "token", labels=5)
    model.save_pretrained(tmp_path)
    export_onnx(model, pair_tokenizer, tmp_path)
    rows = [sentence.split() for sentence in tiny.sentences(9)]
    expected, found = (Tagger(made, pair_tokenizer)(rows) for made in (model, OnnxModel(tmp_path)))
    assert len({word.tag for row in expected for word in row}) > 1
    assert [[word.tag for word in row] for row in found] == [[word.tag for word in row] for row in expected]


def test_the_model_is_left_as_it_was(tokenizer, tmp_path):
    model = tiny.model("bert", "token").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, tokenizer, tmp_path)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_in_int8_all_matrices_are_quantised_the_word_embeddings_too(family, tokenizer, tmp_path):
    model = tiny.model(family, "token", vocab_size=3000, hidden=64, heads=4)
    model.save_pretrained(tmp_path)
    export_onnx(model, tokenizer, tmp_path)
    path = quantize_int8(tmp_path)
    stored = onnx.load(path).graph.initializer
    words = [tensor for tensor in stored if list(tensor.dims) == [3000, 64]]
    assert [tensor.data_type for tensor in words] == [onnx.TensorProto.UINT8]
    large = [tensor.name for tensor in stored if math.prod(tensor.dims) >= 64 * 48 and tensor.data_type == FLOAT]
    assert large == []
    assert Footprint.of_file(path, model).megabytes < 0.45 * Footprint.of(model).megabytes
    found = onnx_agreement(model, path, [padded(tokenizer, 40, 5, "input_ids", "attention_mask")])
    # It is not the float32 file, and not noise.
    assert TOLERANCE < found.max_difference < 0.5
    assert found.same_class > 0.8


def test_agreement_counts_rows_or_tokens_and_leaves_padding_out(tokenizer, tmp_path):
    model = tiny.model("bert", "token")
    export_onnx(model, tokenizer, tmp_path)
    inputs = padded(tokenizer, 6, 1)
    outputs = model(**inputs).logits.detach()
    real = inputs["attention_mask"].bool()

    class Changed(nn.Module):
        """PyTorch's logits, other ones in the padding, and another class at one real token."""

        device = torch.device("cpu")

        def forward(self, **inputs):
            logits = outputs.clone()
            logits[~real] = 1e6
            logits[0, 1] = logits[0, 1].flip(0).roll(1) + torch.tensor([0.0, 0.0, 9e3])
            return (logits,)

    same_before = outputs[0, 1].argmax() == 2
    found = onnx_agreement(Changed(), tmp_path / "model.onnx", [inputs])
    assert found.same_class == pytest.approx(1 - (not same_before) / int(real.sum()))
    assert 0.9 < found.max_difference < 1.1


def test_encoders_without_head_have_no_classes_to_agree_on(tokenizer, tmp_path):
    model = tiny.model("bert")
    export_onnx(model, tokenizer, tmp_path)
    assert onnx_agreement(model, tmp_path / "model.onnx", [padded(tokenizer, 2, 0)]).same_class is None


class DependsOnValues(nn.Module):
    """Takes another path than the traced one for the batches that the file is checked on."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(vocab_size=50, pad_token_id=0)

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 3)

    def forward(self, input_ids, attention_mask):
        logits = self.table(input_ids) * attention_mask[..., None]
        return TokenClassifierOutput(logits=logits * 2 if len(input_ids) > 3 else logits)


@pytest.mark.promise(9)
def test_a_file_that_differs_from_pytorch_is_an_error_and_leaves_the_former_file(tokenizer, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"the former one")
    with pytest.raises(RuntimeError, match=r"DependsOnValues differs from PyTorch by 5\.0e-01 of the largest output"):
        export_onnx(DependsOnValues().eval(), tokenizer, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"the former one"


def test_outputs_that_are_no_numbers_are_a_difference(tokenizer, tmp_path):
    model = tiny.model("bert", "token")
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="differs from PyTorch by nan"):
        export_onnx(model, tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise(9)
def test_what_cannot_be_exported_quantised_or_run_says_why(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"in torch.bfloat16, but must be exported in float32: call model.float\(\)"):
        export_onnx(tiny.model().bfloat16(), tokenizer, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no .*model\.onnx to quantise. Write it with export_onnx"):
        quantize_int8(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*model-int8\.onnx. Export the model first"):
        OnnxModel(tmp_path, "model-int8.onnx")
    model = tiny.model("bert", "token")
    model.save_pretrained(tmp_path)
    export_onnx(model, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="takes input_ids, attention_mask, but attention_mask was not given"):
        OnnxModel(tmp_path)(input_ids=torch.ones(1, 3, dtype=torch.long))


@pytest.mark.promise(9)
@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_libraries_the_error_names_the_extra(library, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"need {library}, which is not installed: pip install 'retort\[onnx\]'"):
        export_onnx(tiny.model(), tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_retort_imports_without_onnxruntime():
    code = "import sys; sys.modules['onnxruntime'] = sys.modules['onnx'] = None; import retort.modeling.onnx"
    run([sys.executable, "-c", code], os.environ)


def test_threads_are_those_of_pytorch_unless_named(tokenizer, tmp_path):
    path = export_onnx(tiny.model(), tokenizer, tmp_path)
    assert open_session(path).get_session_options().intra_op_num_threads == torch.get_num_threads()
    assert open_session(path, threads=2).get_session_options().intra_op_num_threads == 2


def test_the_script_exports_beside_the_model_or_elsewhere_and_prints_what_it_measured(tokenizer, tmp_path):
    model = tiny.model("bert", "token")
    model.save_pretrained(tmp_path / "tagger")
    tokenizer.save_pretrained(tmp_path / "tagger")
    before = {path.name for path in (tmp_path / "tagger").iterdir()}
    printed = run_command("export", "--model", tmp_path / "tagger", "--int8")
    assert {path.name for path in (tmp_path / "tagger").iterdir()} == before | {"model.onnx", "model-int8.onnx"}
    table = [line.split("  ")[0] for line in printed.splitlines()]
    assert [name for name in ("PyTorch", "model.onnx", "model-int8.onnx") if name in table] == table[1:4]
    run_command("export", "--model", tmp_path / "tagger", "--output_dir", tmp_path / "elsewhere")
    exported = OnnxModel(tmp_path / "elsewhere")
    assert exported.config.architectures == ["BertForTokenClassification"]
    assert type(AutoTokenizer.from_pretrained(tmp_path / "elsewhere")) is type(tokenizer)
    assert not (tmp_path / "elsewhere" / "model-int8.onnx").exists()


@pytest.mark.promise(9)
def test_the_script_refuses_what_is_no_finished_model(tmp_path):
    with pytest.raises(AssertionError, match=r"has no config\.json: --model takes the folder of a trained model"):
        run_command("export", "--model", tmp_path)
