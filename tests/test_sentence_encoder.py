"""`SentenceEncoder` gives what `SentenceTransformer.encode` gives: alone, saved, as a teacher, from a cache."""

import json

import pytest
import tiny
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sentence_models import EXACT, KINDS, TEXTS, encoded, qwen3, saved, sentence_transformer, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import CNN, Pooling, WeightedLayerPooling
from torch import nn
from without_retort import run_without_retort

from retort import CKDTrainer, CKDTrainingArguments, ContrastiveTrainer, DistillTrainer, MCLTrainer
from retort.data import tokenize, tokenize_groups
from retort.evaluation import Footprint, Quality, Role
from retort.evaluation.sentences import load_embedder, load_sentence_teacher, side_by_side
from retort.modeling.encoding import SentenceEncoder, read_sentence_modules
from retort.modeling.onnx import OnnxModel, embedding_inputs, export_embeddings

# Embeds texts by folders of sentence-transformers, in a process of its own.
EMBED = """
import json
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
folder, names, texts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
made = {name: SentenceTransformer(f"{folder}/{name}", device="cpu").encode(texts) for name in names}
save_file({name: torch.tensor(vectors) for name, vectors in made.items()}, f"{folder}/found.safetensors")
"""


@pytest.fixture(params=KINDS)
def theirs(request, tokenizer, tmp_path):
    return sentence_transformer(tmp_path / "encoder", tokenizer, request.param)


# --- Alone ------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
def test_embeddings_are_those_of_sentence_transformers_from_object_and_folder(theirs, tmp_path):
    expected = encoded(theirs)
    torch.testing.assert_close(encoded(SentenceEncoder.of(theirs)), expected, **EXACT)
    folder = saved(theirs, tmp_path / "saved")
    torch.testing.assert_close(encoded(SentenceEncoder.from_pretrained(folder)), expected, **EXACT)


@pytest.mark.promise(5)
def test_what_is_saved_gives_equal_embeddings_where_retort_is_not(tokenizer, tmp_path):
    expected = {}
    for index, name in enumerate(KINDS):
        theirs = sentence_transformer(tmp_path / f"encoder-{index}", tokenizer, name)
        expected[f"ours-{index}"] = encoded(theirs)
        SentenceEncoder.of(theirs).save_pretrained(tmp_path / f"ours-{index}")
        again = SentenceEncoder.from_pretrained(tmp_path / f"ours-{index}")
        torch.testing.assert_close(encoded(again), expected[f"ours-{index}"], **EXACT)
    run_without_retort(EMBED, str(tmp_path), json.dumps(list(expected)), json.dumps(TEXTS))
    for name, found in load_file(tmp_path / "found.safetensors").items():
        torch.testing.assert_close(found, expected[name], **EXACT)


@pytest.mark.parametrize("include", [True, False])
def test_prompts_are_taken_by_name_by_default_and_as_text(include, tokenizer, tmp_path):
    first = transformer(tmp_path / "encoder", tokenizer)
    prompts = {"query": "the old man ", "document": "a book "}
    theirs = SentenceTransformer(
        modules=[first, Pooling(32, include_prompt=include)], device="cpu", prompts=prompts, default_prompt_name="query"
    )
    ours = SentenceEncoder.of(theirs)
    for options in ({}, {"prompt_name": "document"}, {"prompt": "red stone "}, {"prompt": ""}):
        torch.testing.assert_close(encoded(ours, **options), encoded(theirs, **options), **EXACT)
    assert (encoded(ours) - encoded(ours, prompt="")).abs().max() > 0.1
    with pytest.raises(ValueError, match="no prompt 'qery', only: query, document"):
        encoded(ours, prompt_name="qery")


def test_averaged_layers_are_read_from_an_object(tokenizer, tmp_path):
    tiny.model(layers=3).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first = Transformer(str(tmp_path), config_kwargs={"output_hidden_states": True})
    weights = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    averaging = WeightedLayerPooling(32, num_hidden_layers=3, layer_start=0, layer_weights=weights)
    theirs = SentenceTransformer(modules=[first, averaging, Pooling(32)], device="cpu")
    ours = SentenceEncoder.of(theirs)
    assert ours.modules.pooling.modes == ("mean_first_last",)
    torch.testing.assert_close(encoded(ours), encoded(theirs), **EXACT)


@pytest.mark.promise(9)
def test_other_modules_are_refused_by_name(tokenizer, tmp_path):
    theirs = SentenceTransformer(
        modules=[transformer(tmp_path / "encoder", tokenizer), CNN(32, 8), Pooling(24)], device="cpu"
    )
    with pytest.raises(ValueError, match="has the modules Transformer, CNN, Pooling"):
        SentenceEncoder.of(theirs)
    with pytest.raises(ValueError, match="has the modules Transformer, CNN, Pooling"):
        read_sentence_modules(saved(theirs, tmp_path / "saved"))


@pytest.mark.promise(9)
@pytest.mark.parametrize("mode", ["weightedmean", "mean_sqrt_len_tokens"])
def test_other_poolings_are_refused_by_name(mode, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, mode)
    with pytest.raises(ValueError, match=f"pools by '{mode}'; retort has 'mean'"):
        SentenceEncoder.of(theirs)


@pytest.mark.promise(9)
def test_an_activation_with_settings_of_its_own_is_refused(tokenizer, tmp_path):
    first = transformer(tmp_path / "encoder", tokenizer)
    for activation, known in ((nn.LeakyReLU(), True), (nn.LeakyReLU(0.5), False)):
        theirs = SentenceTransformer(
            modules=[first, Pooling(32), Dense(32, 8, activation_function=activation)], device="cpu"
        )
        if known:
            torch.testing.assert_close(encoded(SentenceEncoder.of(theirs)), encoded(theirs), **EXACT)
        else:
            with pytest.raises(ValueError, match=r"LeakyReLU\(negative_slope=0\.5\)"):
                SentenceEncoder.of(theirs)


@pytest.mark.promise(9)
def test_modules_of_another_encoder_and_prompts_without_room_are_refused(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "cls, dense, tanh, normalize")
    ours = SentenceEncoder.of(theirs)
    with pytest.raises(ValueError, match="Dense takes vectors of size 32, but its input has size 16"):
        SentenceEncoder(tiny.model(hidden=16), tokenizer, ours.modules)
    with pytest.raises(ValueError, match="leaves no room for a text: prompt and text have at most 20 tokens"):
        ours.prompt_length("the cat " * 20)


@pytest.mark.promise(9)
def test_left_padding_of_absolute_positions_is_refused(tokenizer, tmp_path):
    first = transformer(tmp_path / "encoder", tokenizer, padding_side="left")
    with pytest.raises(ValueError, match="pads on the left, but BertModel has absolute positions"):
        SentenceEncoder.of(SentenceTransformer(modules=[first, Pooling(32)], device="cpu"))


# --- In evaluation ----------------------------------------------------------------------------------------------------


def test_evaluation_embeds_as_sentence_transformers(theirs, tmp_path):
    folder, expected = saved(theirs, tmp_path / "saved"), encoded(theirs)
    torch.testing.assert_close(encoded(load_sentence_teacher(folder, 64)), expected, **EXACT)
    # Embeddings that are scored by direction or by probes aren't scaled at the end.
    found = encoded(load_embedder(folder, None, 64))
    if isinstance(theirs[-1], Normalize) and theirs.truncate_dim is None:
        found = nn.functional.normalize(found, dim=-1)
    if theirs.truncate_dim is None:
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.promise(9)
def test_a_causal_model_without_word_of_its_pooling_is_refused(tokenizer, tmp_path):
    qwen3().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for load in (load_sentence_teacher, lambda folder, length: load_embedder(folder, None, length)):
        with pytest.raises(ValueError, match="Qwen3Model is a causal model"):
            load(tmp_path, 64)


# --- As a teacher -----------------------------------------------------------------------------------------------------


def rows_for(theirs, tokenizer):
    prompt = theirs.prompts.get(theirs.default_prompt_name, "")
    return tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=20, teacher_prompt=prompt)


def trainer_of(teacher, rows, tokenizer, tmp_path, **settings):
    arguments = tiny.arguments(tmp_path / "run", **{"embedding_weight": 1.0, "pooler": "mean"} | settings)
    return DistillTrainer(tiny.model(seed=9), teacher, arguments, train_dataset=rows, processing_class=tokenizer)


def taught(trainer, rows):
    """The embeddings that a trainer's objectives are given of the teacher."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
    found = trainer.teacher.outputs(batch).embedding.float()
    return found[batch.given_order]


@pytest.mark.parametrize("given", ["object", "folder", "encoder", "cached"])
def test_the_teacher_embeds_as_sentence_transformers(theirs, given, tokenizer, tmp_path):
    rows, folder = rows_for(theirs, tokenizer), saved(theirs, tmp_path / "saved")
    expected = torch.tensor(theirs.encode(TEXTS))
    sources = {"object": theirs, "encoder": SentenceEncoder.of(theirs)}
    cache = {"teacher_cache": str(tmp_path / "cache"), "teacher_cache_dtype": "float32"} if given == "cached" else {}
    trainer = trainer_of(sources.get(given, folder), rows, tokenizer, tmp_path, **cache)
    torch.testing.assert_close(taught(trainer, rows), expected, **EXACT)
    # The student is mapped onto embeddings of this width.
    (objective,) = trainer.objectives
    assert trainer.embedding_projector(trainer.args, trainer.student, trainer.teacher.dimensions) is objective.projector
    assert getattr(objective.projector, "out_features", 32) == expected.shape[1]
    if given != "cached":
        assert trainer.train().training_loss > 0


def test_keys_of_a_queue_are_the_teachers_embeddings(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "cls, dense, tanh, normalize")
    rows = rows_for(theirs, tokenizer)
    arguments = tiny.arguments(tmp_path / "run", CKDTrainingArguments, per_device_train_batch_size=7, queue_size=14)
    trainer = CKDTrainer(tiny.model(seed=9), theirs, arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    assert trainer.queue.keys.shape == (14, 16)
    cosines = trainer.queue.keys @ torch.tensor(theirs.encode(TEXTS)).T
    torch.testing.assert_close(cosines.amax(1), torch.ones(14), atol=1e-5, rtol=0)


@pytest.mark.promise(9)
def test_rows_without_the_teachers_prompt_are_refused(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "prompt not pooled, mean")
    texts = ["the old man sees"] * 3 + ["the red house"]
    without = tokenize(Dataset.from_dict({"text": texts}), tokenizer, max_length=20)
    with pytest.raises(ValueError, match=r"Row 3 does not begin with the teacher's prompt.*='the old man '"):
        trainer_of(theirs, without, tokenizer, tmp_path)
    # Nothing is pooled: the prompt is of no concern.
    trainer_of(theirs, without, tokenizer, tmp_path, embedding_weight=0.0, hidden_weight=1.0)


@pytest.mark.promise(9)
def test_rows_of_more_tokens_than_the_teacher_cuts_at_are_refused(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "mean")
    texts = Dataset.from_dict({"text": ["the cat"] * 3 + ["the cat " * 20]})
    long, cut = (tokenize(texts, tokenizer, max_length=length) for length in (24, 20))
    message = r"Row 3 has 24 tokens, but the teacher truncates texts to 20 .*pass max_length=20 to tokenize"
    for given in (theirs, saved(theirs, tmp_path / "saved")):
        with pytest.raises(ValueError, match=message):
            trainer_of(given, long, tokenizer, tmp_path)
    arguments = tiny.arguments(tmp_path / "run", embedding_weight=1.0, pooler="mean")
    own = {"processing_class": tokenizer, "train_dataset": cut}
    with pytest.raises(ValueError, match=message):
        DistillTrainer(tiny.model(), theirs, arguments, eval_dataset={"a": cut, "b": long}, **own)
    # Nothing is pooled: the teacher's hidden states are of no length in particular.
    trainer_of(theirs, long, tokenizer, tmp_path, embedding_weight=0.0, hidden_weight=1.0)
    # Padding doesn't count.
    padded = dict(tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20))
    wider = {name: [row + [0] * 20 for row in padded[name]] for name in ("input_ids", "attention_mask")}
    rows = Dataset.from_dict(wider)
    trainer = trainer_of(theirs, rows, tokenizer, tmp_path)
    torch.testing.assert_close(taught(trainer, rows), encoded(theirs), **EXACT)


@pytest.mark.promise(9)
@pytest.mark.parametrize("backend", ["auto", "padded"])
def test_long_rows_of_a_stream_are_refused_where_they_come(backend, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "mean")
    long = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=24).to_iterable_dataset()
    settings = {"max_steps": 2, "attention_backend": backend}
    trainer = trainer_of(theirs, long, tokenizer, tmp_path, **settings)
    with pytest.raises(ValueError, match="A row of the batch has 24 tokens, but the teacher truncates texts to 20"):
        trainer.train()
    cut = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=20).to_iterable_dataset()
    trainer_of(theirs, cut, tokenizer, tmp_path, **settings).train()


@pytest.mark.promise(9)
def test_another_pooler_than_the_teachers_own_is_refused(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "concatenated")
    rows = rows_for(theirs, tokenizer)
    with pytest.raises(ValueError, match=r"teacher_pooler='mean'.*mean \+ cls_before_pooler \+ max"):
        trainer_of(theirs, rows, tokenizer, tmp_path, teacher_pooler="mean")


@pytest.mark.promise(9)
def test_a_causal_model_is_no_student_and_pools_as_its_files_say_or_not_at_all(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "qwen3")
    rows = rows_for(theirs, tokenizer)
    arguments = tiny.arguments(tmp_path / "run", embedding_weight=1.0)
    for student in (qwen3(), theirs):
        with pytest.raises(ValueError, match=r"Qwen3Model is a causal model.*as a student"):
            DistillTrainer(student, tiny.model(), arguments, train_dataset=rows, processing_class=tokenizer)
    qwen3().save_pretrained(tmp_path / "bare")
    for teacher in (qwen3(), tmp_path / "bare"):
        with pytest.raises(ValueError, match=r"Qwen3Model is a causal model.*pooled by 'mean'"):
            trainer_of(teacher, rows, tokenizer, tmp_path)
    trainer_of(qwen3(), rows, tokenizer, tmp_path, embedding_weight=0.0, hidden_weight=1.0).train()


@pytest.mark.promise(9)
def test_a_cache_of_other_modules_is_stale(tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "cls, dense, tanh, normalize")
    rows = rows_for(theirs, tokenizer)
    cache = {"teacher_cache": str(tmp_path / "cache")}
    trainer_of(theirs, rows, tokenizer, tmp_path, **cache)
    again = trainer_of(theirs, rows, tokenizer, tmp_path, **cache)
    assert again.teacher.dimensions.embedding_size == 16
    for change in (
        lambda: theirs[2].linear.bias.data.add_(1),
        lambda: setattr(theirs[2], "activation_function", nn.Identity()),
        lambda: setattr(theirs, "truncate_dim", 8),
        lambda: setattr(theirs[1], "pooling_mode", "mean"),
    ):
        change()
        with pytest.raises(ValueError, match="the teacher's weights or settings"):
            trainer_of(theirs, rows, tokenizer, tmp_path, **cache)


# --- As a student -----------------------------------------------------------------------------------------------------


def test_a_students_pooler_becomes_the_runs_and_it_is_saved_with_it(tokenizer, tmp_path):
    torch.manual_seed(1)
    teacher = sentence_transformer(tmp_path / "teacher", tokenizer, "cls, dense, tanh, normalize")
    first = transformer(tmp_path / "encoder", tokenizer, model=tiny.model(seed=9))
    student = SentenceTransformer(modules=[first, Pooling(32, "max"), Normalize()], device="cpu")
    rows = rows_for(teacher, tokenizer)
    arguments = tiny.arguments(
        tmp_path / "run", embedding_weight=1.0, keep_projector=True, max_steps=20, learning_rate=1e-3
    )
    trainer = DistillTrainer(student, teacher, arguments, train_dataset=rows, processing_class=first.tokenizer)
    assert trainer.args.pooler == "max"
    assert trainer.student is first.auto_model
    trainer.train()
    trainer.save_model(tmp_path / "out")
    read = read_sentence_modules(tmp_path / "out")
    assert (str(read.pooling), read.normalizes, read.embedding_size(32)) == ("max", True, 16)
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    torch.testing.assert_close(encoded(SentenceEncoder.from_pretrained(tmp_path / "out")), encoded(stock), **EXACT)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
    with torch.no_grad():
        made = trainer.model.eval()(batch.student, batch.layout).embedding
    made = made[batch.given_order]
    ours = nn.functional.normalize(made, dim=-1)
    torch.testing.assert_close(ours, torch.tensor(stock.encode(TEXTS)), **EXACT)


STUDENTS = [name for name in KINDS if name != "qwen3"]


def student_run(name, tokenizer, tmp_path, **settings):
    """A run in which a model of sentence-transformers is the student, of a teacher of other embeddings."""
    student = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    prompt = student.prompts.get(student.default_prompt_name, "")
    data = Dataset.from_dict({"text": TEXTS})
    rows = tokenize(data, tokenizer, max_length=20, prompt=prompt)
    weights = {"embedding_weight": 1.0, "embedding_loss": "mse", "teacher_pooler": "mean"}
    args = tiny.arguments(tmp_path / "run", **weights | {"max_steps": 20, "learning_rate": 1e-3} | settings)
    teacher = tiny.model(seed=9, hidden=48)
    return student, DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=student.tokenizer)


@pytest.mark.parametrize("backend", ["auto", "padded"])
@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_embeds_as_sentence_transformers(name, backend, tokenizer, tmp_path):
    student, trainer = student_run(name, tokenizer, tmp_path, attention_backend=backend)
    found = torch.as_tensor(trainer.predict(trainer.train_dataset).predictions)
    torch.testing.assert_close(found, encoded(student), **EXACT)


@pytest.mark.promise(5)
@pytest.mark.parametrize("kept", [False, True])
def test_a_distilled_student_is_saved_with_all_that_it_learnt(kept, tokenizer, tmp_path):
    expected = {}
    for index, name in enumerate(STUDENTS):
        if kept and name == "truncated":
            continue
        _, trainer = student_run(name, tokenizer, tmp_path / f"{index}", keep_projector=kept)
        before = {name: each.clone() for name, each in (trainer.model.head.state_dict()).items()}
        trainer.train()
        assert not any(torch.equal(each, trainer.model.head.state_dict()[name]) for name, each in before.items())
        trainer.save_model(tmp_path / f"student-{index}")
        expected[f"student-{index}"] = torch.as_tensor(trainer.predict(trainer.train_dataset).predictions)
        again = SentenceEncoder.from_pretrained(tmp_path / f"student-{index}")
        torch.testing.assert_close(encoded(again), expected[f"student-{index}"], **EXACT)
        assert again.embedding_size == (48 if kept else trainer.student_encoder.embedding_size)
        export_embeddings(again, tmp_path / f"student-{index}")
        made = OnnxModel(tmp_path / f"student-{index}")(**embedding_inputs(again, TEXTS)).sentence_embedding
        torch.testing.assert_close(made, expected[f"student-{index}"], **EXACT)
    run_without_retort(EMBED, str(tmp_path), json.dumps(list(expected)), json.dumps(TEXTS))
    for name, found in load_file(tmp_path / "found.safetensors").items():
        torch.testing.assert_close(found, expected[name], **EXACT)


@pytest.mark.parametrize(
    ("name", "kept"), [("mean", True), ("concatenated", False), ("concatenated", True), ("linear", True)]
)
def test_sizes_in_card_and_report_are_those_of_all_exported_modules(name, kept, tokenizer, tmp_path):
    student, trainer = student_run("mean" if name == "linear" else name, tokenizer, tmp_path, keep_projector=kept)
    if name == "linear":  # it takes the projector into itself
        student = SentenceEncoder(student[0].model, tokenizer, tiny.surrounding(projector=nn.Linear(32, 16)))
        teacher, rows = tiny.model(hidden=48), trainer.train_dataset
        trainer = DistillTrainer(student, teacher, trainer.args, train_dataset=rows, processing_class=tokenizer)
    trainer.save_model()
    stock = SentenceTransformer(str(tmp_path / "run"), device="cpu")
    expected = sum(each.numel() for each in stock.parameters())
    assert trainer.card_facts().size.parameters == expected
    model = {"student": (Role.STUDENT, SentenceEncoder.from_pretrained(tmp_path / "run"))}
    report = side_by_side(model, lambda _: Quality({"sts": 0.5}), TEXTS, [], measured="")
    assert report.student.footprint == Footprint.of(stock)
    assert report.student.footprint.parameters == expected


@pytest.mark.promise(2)
def test_what_a_student_s_modules_learnt_is_resumed_from(tokenizer, tmp_path):
    settings = {"save_steps": 5, "max_steps": 8}
    _, whole = student_run("concatenated", tokenizer, tmp_path / "whole", **settings)
    whole.train()
    _, again = student_run("concatenated", tokenizer, tmp_path / "again", **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "run" / "checkpoint-5"))
    for name, each in whole.model.state_dict().items():
        assert torch.equal(each, again.model.state_dict()[name]), name


@pytest.mark.promise(9)
def test_a_student_whose_rows_lack_its_prompt_is_refused(tokenizer, tmp_path):
    student = sentence_transformer(tmp_path / "encoder", tokenizer, "prompt not pooled, mean")
    args = tiny.arguments(tmp_path / "run", embedding_weight=1.0)
    rows = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=20)
    with pytest.raises(
        ValueError, match=r"The training rows: Row \d+ does not begin with the student's prompt.*prompt="
    ):
        DistillTrainer(student, tiny.model(), args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(9)
def test_a_projector_is_not_kept_behind_a_truncation(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="behind the student's truncate_dim=10"):
        student_run("truncated", tokenizer, tmp_path, keep_projector=True)


@pytest.mark.promise(9)
def test_a_student_of_several_poolers_does_not_say_how_a_teacher_is_pooled(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"The student pools by mean \+ cls_before_pooler \+ max.*teacher_pooler"):
        student_run("concatenated", tokenizer, tmp_path, teacher_pooler=None)


@pytest.mark.promise(9)
def test_a_student_that_pools_otherwise_than_the_arguments_say_is_refused(tokenizer, tmp_path):
    first = transformer(tmp_path / "encoder", tokenizer)
    student = SentenceTransformer(modules=[first, Pooling(32, "cls"), Normalize()], device="cpu")
    arguments = tiny.arguments(tmp_path / "run", embedding_weight=1.0, pooler="max")
    with pytest.raises(ValueError, match="pooler='max', but the student pools by 'cls_before_pooler'"):
        DistillTrainer(student, tiny.model(), arguments)
    arguments.pooler = "mean"  # as by default
    trainer = DistillTrainer(student, tiny.model(), arguments, processing_class=tokenizer)
    assert trainer.args.pooler == "cls_before_pooler"


def grouped(tokenizer, **sides):
    return tokenize_groups(Dataset.from_dict(sides), tokenizer, teacher_tokenizer=tokenizer, max_length=20)


@pytest.mark.parametrize("trainer", [CKDTrainer, MCLTrainer, ContrastiveTrainer])
def test_every_trainer_of_embeddings_trains_and_saves_a_student_s_modules(trainer, tokenizer, tmp_path):
    student = sentence_transformer(tmp_path / "encoder", tokenizer, "concatenated")
    args = tiny.arguments(tmp_path / "run", trainer.arguments_class, max_steps=2, teacher_pooler="mean")
    rows = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=20)
    if trainer is not CKDTrainer:
        first, second = ("source", "target") if trainer is MCLTrainer else ("anchor", "positive")
        rows = grouped(tokenizer, **{first: TEXTS, second: TEXTS[::-1]})
    teacher = None if trainer is ContrastiveTrainer else tiny.model(seed=9, hidden=48)
    made = trainer(student, teacher, args, train_dataset=rows, processing_class=student.tokenizer)
    before = {name: each.clone() for name, each in made.model.head.state_dict().items()}
    made.train()
    assert not any(torch.equal(each, made.model.head.state_dict()[name]) for name, each in before.items())
    made.save_model(tmp_path / "student")
    found = torch.as_tensor(made.predict(rows).predictions)
    found = found if trainer is CKDTrainer else found[:, 0]
    torch.testing.assert_close(found, encoded(SentenceTransformer(str(tmp_path / "student"), device="cpu")), **EXACT)


def test_that_texts_are_cut_is_said_once(tokenizer, tmp_path, caplog):
    encoder = SentenceEncoder.of(sentence_transformer(tmp_path / "encoder", tokenizer, "mean"))
    with caplog.at_level("WARNING"):
        encoder.encode(["a cat", "the dog"])
        assert "are truncated" not in caplog.text
        for _ in range(2):
            encoder.encode(TEXTS)
    assert caplog.text.count("Texts of more than 20 tokens are truncated before they are embedded.") == 1
