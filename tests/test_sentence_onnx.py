"""ONNX files of sentence encoders: tokens in, and out what `SentenceTransformer.encode` gives."""

import json

import onnx
import pytest
import tiny
import torch
from safetensors.torch import load_file
from scripts import run_command
from sentence_models import EXACT, KINDS, TEXTS, encoded, saved, sentence_transformer, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling
from test_sentence_folders import move_encoder
from torch import nn
from without_retort import run_without_retort

from retort import shrink
from retort.modeling.encoding import POOLERS, SentenceEncoder, SentenceModules, write_int8_ranges
from retort.modeling.onnx import OnnxModel, embedding_inputs, export_embeddings, quantize_int8

STUDENTS = [name for name in KINDS if name != "qwen3"]


def by_onnx(encoder, folder, **prompt):
    """Embeddings of the texts in batches of other shapes than the file was traced at."""
    model = OnnxModel(folder)
    batches = [TEXTS[:1], TEXTS[1:6], TEXTS[6:]]
    made = [model(**embedding_inputs(encoder, texts, **prompt)).sentence_embedding for texts in batches]
    return torch.cat(made)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_file_embeds_as_sentence_transformers(name, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    encoder = SentenceEncoder.from_pretrained(saved(theirs, tmp_path / "saved"))
    assert export_embeddings(encoder, tmp_path / "saved") == tmp_path / "saved" / "model.onnx"
    torch.testing.assert_close(by_onnx(encoder, tmp_path / "saved"), encoded(theirs), **EXACT)
    # What tools read that pool themselves is there, too.
    graph = onnx.load(tmp_path / "saved" / "model.onnx").graph
    assert [output.name for output in graph.output] == ["sentence_embedding", "last_hidden_state"]


@pytest.mark.promise(5)
def test_onnx_runtime_alone_gives_the_embeddings_of_sentence_transformers(tokenizer, tmp_path):
    wanted = ("cls, dense, tanh, normalize", "concatenated", "truncated", "prompt not pooled, mean")
    expected, lengths = {}, {}
    for index, name in enumerate(wanted):
        theirs = sentence_transformer(tmp_path / f"encoder-{index}", tokenizer, name)
        encoder = SentenceEncoder.of(theirs)
        encoder.save_pretrained(tmp_path / f"{index}")
        export_embeddings(encoder, tmp_path / f"{index}")
        expected[f"{index}"], lengths[f"{index}"] = encoded(theirs), encoder.prompt_length(encoder.modules.prompt())
    code = """
import json
import numpy as np
import onnxruntime
from pathlib import Path
from safetensors.numpy import save_file
from transformers import AutoTokenizer
folder, lengths, texts = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
made = {}
for name, length in lengths.items():
    settings = json.loads((folder / name / "config_sentence_transformers.json").read_text())
    prompt = settings["prompts"].get(settings["default_prompt_name"], "")
    tokens = AutoTokenizer.from_pretrained(folder / name)(
        [prompt + text for text in texts], padding=True, truncation=True, return_tensors="np"
    )
    session = onnxruntime.InferenceSession(folder / name / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = dict(tokens) | {"prompt_length": np.full(len(texts), length)}
    taken = {node.name: inputs[node.name] for node in session.get_inputs()}
    (made[name],) = session.run(["sentence_embedding"], taken)
save_file(made, folder / "found.safetensors")
"""
    run_without_retort(code, str(tmp_path), json.dumps(lengths), json.dumps(TEXTS))
    for name, found in load_file(tmp_path / "found.safetensors").items():
        torch.testing.assert_close(found, expected[name], **EXACT)


@pytest.mark.parametrize("mode", ["mean", ("mean", "cls"), ("mean", "max"), "lasttoken"])
def test_each_named_prompt_is_left_out_by_its_own_length(mode, tokenizer, tmp_path):
    prompts = {"query": "the old man ", "document": "a book ", "none": ""}
    first = transformer(tmp_path / "encoder", tokenizer)
    theirs = SentenceTransformer(
        modules=[first, TheirPooling(32, mode, include_prompt=False)],
        device="cpu",
        prompts=prompts,
        default_prompt_name="query",
    )
    encoder = SentenceEncoder.of(theirs)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    for name in (None, *prompts):
        found = by_onnx(encoder, tmp_path, prompt_name=name)
        torch.testing.assert_close(found, encoded(theirs, prompt_name=name), **EXACT)


@pytest.mark.parametrize(
    ("family", "pooler"),
    [("bert", pooler) for pooler in POOLERS] + [("modernbert", pooler) for pooler in POOLERS if pooler != "cls"],
)
def test_every_pooler_of_ours_is_in_the_graph(family, pooler, tokenizer, tmp_path):
    modules = SentenceModules.plain(pooler, 20, normalize=False)
    encoder = SentenceEncoder(tiny.model(family, layers=3), tokenizer, modules)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    torch.testing.assert_close(by_onnx(encoder, tmp_path), encoded(encoder), **EXACT)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "recurrent"])
def test_every_familys_averaged_layers_are_in_the_graph(family, tokenizer, tmp_path):
    model = (
        shrink(tiny.model(), layers=1, recurrent_steps=3, embedding_size=8)
        if family == "recurrent"
        else tiny.model(family, layers=3)
    )
    modules = SentenceModules.plain("mean_first_last", 20, normalize=True)
    encoder = SentenceEncoder(model, tokenizer, modules)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    torch.testing.assert_close(by_onnx(encoder, tmp_path), encoded(encoder), **EXACT)


@pytest.mark.promise(9)
def test_a_pooler_that_the_model_lacks_is_refused(tokenizer, tmp_path):
    encoder = SentenceEncoder(tiny.model("modernbert"), tokenizer, SentenceModules.plain("cls", 20, normalize=False))
    with pytest.raises(ValueError, match="ModernBertModel has no pooler"):
        export_embeddings(encoder, tmp_path)


@pytest.mark.parametrize("pooler", ["mean", "cls_before_pooler", "last_token", "max"])
def test_rows_padded_on_the_left_are_pooled_alike(pooler, tokenizer, tmp_path):
    left = tiny.tokenizer()
    left.padding_side = "left"
    modules = SentenceModules.plain(pooler, 20, normalize=False)
    encoder = SentenceEncoder(tiny.model("modernbert"), left, modules)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    assert embedding_inputs(encoder, TEXTS[1:6])["attention_mask"][:, 0].min() == 0
    torch.testing.assert_close(by_onnx(encoder, tmp_path), encoded(encoder), **EXACT)


@pytest.mark.promise(9)
def test_a_causal_model_is_refused_by_name_and_prompts_lengths_are_not_guessed(tokenizer, tmp_path):
    encoder = SentenceEncoder.of(sentence_transformer(tmp_path / "qwen3", tokenizer, "qwen3"))
    with pytest.raises(ValueError, match=r"Qwen3Model is a causal model.*as an ONNX file of embeddings"):
        export_embeddings(encoder, tmp_path)
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "prompt not pooled, mean")
    encoder = SentenceEncoder.of(theirs)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    inputs = embedding_inputs(encoder, TEXTS)
    del inputs["prompt_length"]
    with pytest.raises(ValueError, match="prompt_length was not given"):
        OnnxModel(tmp_path)(**inputs)
    encoder.model.bfloat16()
    with pytest.raises(ValueError, match=r"in torch\.bfloat16, but must be exported in float32"):
        export_embeddings(encoder, tmp_path)


def test_modules_after_the_pooler_are_quantised(tokenizer, tmp_path):
    first = transformer(tmp_path / "encoder", tokenizer)
    theirs = SentenceTransformer(
        modules=[first, TheirPooling(32), Dense(32, 64, activation_function=nn.Tanh())], device="cpu"
    )
    encoder = SentenceEncoder.of(theirs)
    encoder.save_pretrained(tmp_path)
    export_embeddings(encoder, tmp_path)
    quantize_int8(tmp_path)
    found = OnnxModel(tmp_path, "model-int8.onnx")(**embedding_inputs(encoder, TEXTS)).sentence_embedding
    expected = encoded(theirs)
    difference = (found - expected).abs().max() / expected.abs().max()
    assert 1e-5 < difference < 0.2


@pytest.mark.parametrize("subfolder", [False, True])
def test_the_script_exports_embeddings_of_a_sentence_transformers_folder(subfolder, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "prompt not pooled, mean")
    folder = saved(theirs, tmp_path / "saved")
    if subfolder:
        move_encoder(folder, "0_Transformer")
    write_int8_ranges(folder, torch.tensor([[0.0], [1.0]]))
    for _ in range(1 + subfolder):  # also again, into the same folder
        printed = run_command("export", "--model", folder, "--output_dir", tmp_path / "out")
        assert "model.onnx" in printed
    encoder = SentenceEncoder.from_pretrained(folder)
    torch.testing.assert_close(by_onnx(encoder, tmp_path / "out"), encoded(theirs), **EXACT)
    # Prompts, length, pooling and the ranges of int8 embeddings lie beside the file; the weights don't.
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "modules.json",
        "config_sentence_transformers.json",
        "tokenizer.json",
        "config.json",
        "int8_ranges.npy",
    } <= names
    assert "model.safetensors" not in names
