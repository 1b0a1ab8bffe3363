"""Vectors in a column in place of a teacher: the same losses, and what is refused of them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from datasets import Dataset, Features, List, Value
from ranks import run_on_ranks
from safetensors.torch import save_file
from sentence_models import qwen3, saved, sentence_transformer, transformer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from retort import (
    CKDTrainer,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    Stage,
    StagedRun,
    tokenize,
)
from retort.data import VECTORS, check_vectors, combine_vectors, read_vectors, tokenize_groups, with_vectors
from retort.modeling.encoding import SentenceEncoder
from retort.trainers import write_vectors
from retort.trainers.teachers.cache_files import StaleCacheError

COUNT = 24
TEACHERS = ("decoder with a prompt", "Dense in a folder")
OBJECTIVES = {
    "mse": (DistillTrainer, {"embedding_weight": 1.0, "embedding_loss": "mse"}),
    "all others": (
        CKDTrainer,
        {
            "contrastive_weight": 1.0,
            "queue_size": 8,
            "fill_queue": True,
            "embedding_weight": 1.0,
            "similarity_weight": 1.0,
        },
    ),
}


@pytest.fixture(scope="module")
def texts():
    return Dataset.from_dict({"text": tiny.sentences(COUNT, seed=2)})


@pytest.fixture(scope="module")
def teachers(tokenizer, tmp_path_factory):
    """A decoder with last-token pooling and a prompt (32 numbers), and the folder of an encoder that pools by mean, cls
    and max, with LayerNorm and Dense (24 numbers)."""
    folder = tmp_path_factory.mktemp("teachers")
    first = transformer(folder / "qwen3", tokenizer, model=qwen3(), padding_side="left")
    prompts = {"prompts": {"query": "the old man "}, "default_prompt_name": "query"}
    decoder = SentenceTransformer(modules=[first, Pooling(32, "lasttoken"), Normalize()], device="cpu", **prompts)
    dense = sentence_transformer(folder / "bert", tokenizer, "concatenated")
    return {TEACHERS[0]: SentenceEncoder.of(decoder), TEACHERS[1]: str(saved(dense, folder / "dense"))}


def as_encoder(teacher):
    return SentenceEncoder.from_pretrained(teacher) if isinstance(teacher, str) else teacher


def student():
    """Of another width than any teacher's, and with other tokens."""
    return tiny.model(layers=3, hidden=20, heads=4, seed=3)


def trainer_of(folder, kind, settings, teacher, rows, **more):
    args = tiny.arguments(folder / "run", kind.arguments_class, save_strategy="no", max_steps=3, **settings)
    own = tiny.tokenizer("wordpiece, other words")
    return kind(student(), teacher, args, train_dataset=rows, processing_class=own, **more)


def losses_of(trainer):
    """Of each objective at each step, and in evaluation."""
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    steps = [value for entry in history for name, value in sorted(entry.items()) if name.startswith("loss")]
    assert len(history) == 3
    found = trainer.evaluate()
    return [*steps, *(value for name, value in sorted(found.items()) if name.startswith("eval_loss"))]


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_equal_with_a_live_teacher_a_cached_one_and_its_vectors(objective, name, teachers, texts, tmp_path):
    kind, settings = OBJECTIVES[objective]
    encoder, own = as_encoder(teachers[name]), tiny.tokenizer("wordpiece, other words")
    theirs = {"teacher_tokenizer": encoder.tokenizer, "teacher_prompt": encoder.modules.prompt()}
    rows = tokenize(texts, own, max_length=20, **theirs)
    more = {"teacher_processing_class": encoder.tokenizer, "eval_dataset": rows}
    live = losses_of(trainer_of(tmp_path, kind, settings, teachers[name], rows, **more))

    cache = {"teacher_cache": str(tmp_path / "cache"), "teacher_cache_dtype": "float32"}
    trainer_of(tmp_path, kind, settings | cache, teachers[name], rows, **more)
    cached = losses_of(trainer_of(tmp_path, kind, settings | cache, None, rows, **more))

    write_vectors(encoder, texts, tmp_path / "vectors", rows_per_part=10)
    rows = with_vectors(texts, read_vectors(str(tmp_path / "vectors")), source="vectors")
    rows = tokenize(rows, own, vectors=VECTORS, max_length=20)
    assert not {"teacher_input_ids"} & set(rows.column_names)
    given = losses_of(trainer_of(tmp_path, kind, settings, None, rows, eval_dataset=rows))

    assert cached == pytest.approx(live, rel=0, abs=1e-5)
    assert given == pytest.approx(live, rel=0, abs=1e-5)
    assert len(set(np.round(live, 4))) > 3  # they are of something


def test_translations_are_learnt_from_the_vectors_of_their_sources(teachers, tmp_path):
    encoder, own = as_encoder(teachers[TEACHERS[0]]), tiny.tokenizer("wordpiece, other words")
    pairs = Dataset.from_dict({"source": tiny.sentences(COUNT, seed=5), "target": tiny.sentences(COUNT, seed=6)})
    settings = {"mcl_weight": 1.0, "source_weight": 1.0, "target_weight": 1.0, "embedding_loss": "mse"}
    theirs = {"teacher_tokenizer": encoder.tokenizer, "teacher_prompt": encoder.modules.prompt()}
    rows = tokenize_groups(pairs, own, max_length=20, **theirs)
    more = {"teacher_processing_class": encoder.tokenizer, "eval_dataset": rows}
    live = losses_of(trainer_of(tmp_path, MCLTrainer, settings, encoder, rows, **more))
    made = pairs.add_column("vector", list(encoder.encode(pairs["source"][:]).numpy()))
    rows = tokenize_groups(made, own, vectors="vector", max_length=20)
    given = losses_of(trainer_of(tmp_path, MCLTrainer, settings, None, rows, eval_dataset=rows))
    assert given == pytest.approx(live, rel=0, abs=1e-5)


# --- The student ------------------------------------------------------------------------------------------------------


def vectors_beside(texts, width=12, seed=0, kind=np.float32):
    """Texts with random vectors."""
    drawn = np.random.default_rng(seed).normal(size=(len(texts), width)).astype(kind)
    return texts.add_column("vector", list(drawn))


@pytest.mark.promise(5)
@pytest.mark.parametrize(("keep", "size"), [(True, 12), (False, 20)])
def test_the_projector_into_the_vectors_width_is_kept_or_dropped(keep, size, texts, tmp_path):
    own = tiny.tokenizer("wordpiece, other words")
    rows = tokenize(vectors_beside(texts), own, vectors="vector", max_length=64)
    settings = {"embedding_weight": 1.0, "keep_projector": keep}
    trainer = trainer_of(tmp_path, DistillTrainer, settings, None, rows)
    trainer.train()
    predicted = trainer.predict(rows).predictions
    trainer.save_model(str(tmp_path / "out"))
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert trainer.embedding_size == size
    np.testing.assert_allclose(stock.encode(texts["text"][:]), predicted, atol=1e-5)
    assert predicted.shape == (COUNT, size)


@pytest.mark.promise(5)
@pytest.mark.parametrize("activation", [nn.Identity(), nn.Tanh()])
def test_a_kept_projector_is_folded_into_a_dense_that_is_linear(activation, texts, tmp_path):
    first = transformer(tmp_path / "bert", tiny.tokenizer(), model=tiny.model(layers=1))
    after = [Pooling(32, "mean"), Dense(32, 9, activation_function=activation)]
    given = SentenceTransformer(modules=[first, *after], device="cpu")
    rows = tokenize(vectors_beside(texts), tiny.tokenizer(), vectors="vector", max_length=20)
    args = tiny.arguments(
        tmp_path / "run", embedding_weight=1.0, embedding_loss="mse", keep_projector=True, max_steps=3
    )
    trainer = DistillTrainer(given, None, args, train_dataset=rows, processing_class=given.tokenizer)
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    kinds = [type(module).__name__ for module in stock]
    assert kinds == ["Transformer", "Pooling", *["Dense"] * (1 if isinstance(activation, nn.Identity) else 2)]
    np.testing.assert_allclose(stock.encode(texts["text"][:]), trainer.predict(rows).predictions, atol=1e-5)
    assert stock.get_sentence_embedding_dimension() == 12


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_vectors_of_any_float_are_compared_in_float32(kind, texts, tmp_path):
    own = tiny.tokenizer("wordpiece, other words")
    exact = vectors_beside(texts, kind=np.float16)
    curves = []
    for data in (exact, exact.cast_column("vector", List(Value(np.dtype(kind).name)))):
        rows = tokenize(data, own, vectors="vector", max_length=20)
        settings = {"embedding_weight": 1.0, "embedding_loss": "mse"}
        curves.append(losses_of(trainer_of(tmp_path, DistillTrainer, settings, None, rows, eval_dataset=rows)))
    assert curves[0] == curves[1]


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_vectors_stay_with_their_texts_where_rows_are_left_out_or_shuffled(tokenizer):
    data = Dataset.from_dict(
        {"text": ["the cat", " ", "a dog", None, "the bird", "a tree"], "v": [[float(i)] * 3 for i in range(6)]}
    )
    rows = tokenize(data, tokenizer, vectors="v")
    assert rows.column_names == ["input_ids", "length", VECTORS]
    assert np.array(rows[VECTORS]).tolist() == [[i] * 3 for i in (0.0, 2.0, 4.0, 5.0)]
    shuffled = data.select([5, 2, 1, 0])
    rows = tokenize(shuffled, tokenizer, vectors="v")
    assert np.array(rows[VECTORS]).tolist() == [[i] * 3 for i in (5.0, 2.0, 0.0)]
    decoded = [
        text.replace("[CLS]", "").replace("[SEP]", "").strip() for text in map(tokenizer.decode, rows["input_ids"])
    ]
    assert decoded == ["a tree", "a dog", "the cat"]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v[17].__setitem__(3, np.nan), "row 17 holds a number that is not finite"),
        (lambda v: v[17].__setitem__(3, -np.inf), "row 17 holds a number that is not finite"),
        (lambda v: v[17].__setitem__(3, 1e30), "row 17 holds a vector whose length is not finite"),
        (lambda v: v.__setitem__(17, [0.0] * 12), "row 17 holds a vector shorter than 1e-12"),
        (lambda v: v.__setitem__(17, [2e-13] * 12), "row 17 holds a vector shorter than 1e-12"),
        (
            lambda v: v.__setitem__(17, [1.0] * 11),
            "row 17 has a vector of another width than row 0",
        ),
        (lambda v: v.__setitem__(17, []), "row 17 has no vector"),
        (lambda v: v.__setitem__(17, None), "row 17 has no vector"),
        (lambda v: v.__setitem__(17, [None] * 12), "row 17 holds a number that is not finite"),
        (lambda v: v.__setitem__(slice(None), [[0.5] * 12] * COUNT), "the vectors of all 24 rows are equal"),
    ],
)
def test_vectors_that_teach_nothing_are_refused_with_their_row(spoil, message, texts, tokenizer, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(COUNT, 12)).tolist()
    spoil(vectors)
    features = Features({"text": Value("string"), VECTORS: List(Value("float32"))})
    data = Dataset.from_dict({"text": texts["text"][:], VECTORS: vectors}, features=features)
    with pytest.raises(ValueError, match=message):
        check_vectors(data)
    rows = tokenize(data, tokenizer, vectors=VECTORS)
    with pytest.raises(ValueError, match=f"The training rows: {message}"):
        trainer_of(tmp_path, DistillTrainer, {"embedding_weight": 1.0}, None, rows)
    pq.write_table(data.data.table.combine_chunks(), tmp_path / "vectors.parquet")
    with pytest.raises(ValueError, match=f"vectors.parquet: {message}"):
        read_vectors(str(tmp_path / "vectors.parquet"))


def test_a_row_without_a_vector_in_a_column_of_fixed_width_is_found(texts):
    values = [[1.0, 2.0], None, [2.0, 1.0]]
    table = pa.table({VECTORS: pa.array(values, pa.list_(pa.float32(), 2))})
    with pytest.raises(ValueError, match="row 1 has no vector"):
        check_vectors(Dataset(table))


def test_checks_tell_the_number_of_a_row_far_behind():
    values = np.random.default_rng(0).normal(size=(25_000, 4)).astype(np.float32)
    values[21_234, 2] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 4)
    data = Dataset(pa.table({VECTORS: column}))
    with pytest.raises(ValueError, match="row 21234 holds a number that is not finite"):
        check_vectors(data)
    assert check_vectors(data.select(range(21_234))) == 4
    assert check_vectors(data.select([*range(30, 10_000), *range(22_000, 25_000)])) == 4


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_weight": 1.0}, "hidden: the rows hold only the teacher's embeddings"),
        ({"embedding_weight": 1.0, "relation_weight": 1.0, "relation_heads": 2}, "relations: the rows hold"),
        ({"embedding_weight": 1.0, "attention_weight": 1.0}, "attention: the rows hold"),
        ({"embedding_weight": 1.0, "teacher_pooler": "mean"}, "but the teacher's vectors in the rows"),
        ({"embedding_weight": 1.0, "projector": "none"}, "20 features, the teacher's 12, and projector='none'"),
    ],
)
def test_what_needs_more_than_embeddings_is_refused_by_name(settings, message, texts, tmp_path):
    rows = tokenize(vectors_beside(texts), tiny.tokenizer(), vectors="vector")
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, DistillTrainer, settings, None, rows)


@pytest.mark.promise(9)
def test_datasets_without_vectors_or_of_other_widths_are_refused(texts, tokenizer, tmp_path):
    rows = tokenize(vectors_beside(texts), tokenizer, vectors="vector")
    others = {
        "they have no column 'teacher_embedding'": tokenize(texts, tokenizer),
        "their vectors have 8 numbers, but those of other datasets have 12": tokenize(
            vectors_beside(texts, width=8), tokenizer, vectors="vector"
        ),
    }
    settings = {"embedding_weight": 1.0}
    for message, other in others.items():
        with pytest.raises(ValueError, match=rf"The evaluation \(dev\) rows: {message}"):
            trainer_of(tmp_path, DistillTrainer, settings, None, rows, eval_dataset={"dev": other})
        trainer = trainer_of(tmp_path, DistillTrainer, settings, None, rows)
        with pytest.raises(ValueError, match=f"The evaluation rows: {message}"):
            trainer.evaluate(other)
        assert trainer.predict(other).predictions.shape == (COUNT, 20)
    with pytest.raises(ValueError, match="but a teacher is given, too"):
        trainer_of(tmp_path, DistillTrainer, settings, tiny.model(seed=5), rows)


@pytest.mark.promise(9)
def test_groups_have_no_vector_for_each_text(tokenizer, tmp_path):
    pairs = Dataset.from_dict({"a": tiny.sentences(8, seed=5), "b": tiny.sentences(8, seed=6)})
    rows = tokenize_groups(vectors_beside(pairs), tokenizer, vectors="vector")
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, embedding_weight=1.0)
    with pytest.raises(ValueError, match="groups of texts, but a row has the teacher's vector of only one text"):
        ContrastiveTrainer(student(), None, args, train_dataset=rows, processing_class=tokenizer)


def test_a_stream_learns_what_its_rows_teach_and_refuses_what_is_not_finite(texts, tmp_path):
    rows = tokenize(vectors_beside(texts), tiny.tokenizer("wordpiece, other words"), vectors="vector", max_length=20)
    settings = {"embedding_weight": 1.0, "train_sampling_strategy": "sequential"}
    mapped = trainer_of(tmp_path, DistillTrainer, settings, None, rows)
    stream = trainer_of(tmp_path, DistillTrainer, settings, None, rows.to_iterable_dataset())
    curves = []
    for trainer in (mapped, stream):
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)
    vectors = np.array(rows[VECTORS])
    vectors[3, 5] = np.inf
    spoilt = rows.remove_columns(VECTORS).add_column(VECTORS, list(vectors)).to_iterable_dataset()
    with pytest.raises(ValueError, match="Row 3 of the batch holds a vector in teacher_embedding that is not finite"):
        trainer_of(tmp_path, DistillTrainer, settings, None, spoilt).train()


def test_stages_are_run_anew_with_other_vectors(texts, tmp_path):
    own = tiny.tokenizer("wordpiece, other words")
    stages = [Stage("one", {"embedding_weight": 1.0})]

    def folders(seed):
        rows = tokenize(vectors_beside(texts, seed=seed), own, vectors="vector", max_length=20)
        run = StagedRun(stages, student(), folder=tmp_path, data={"train": rows}, processing_class=own)
        return [planned.folder for planned in run.plan]

    assert folders(0) == folders(0) != folders(1)


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def matrix():
    return np.random.default_rng(1).normal(size=(COUNT, 12)).astype(np.float32)


@pytest.fixture
def corpus(texts, tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(texts["text"][:]) + "\n")
    return tmp_path / "corpus.txt"


def test_tables_and_arrays_hold_the_same_vectors(texts, corpus, matrix, tmp_path):
    names = {"text": texts["text"][:], "vector": list(matrix)}
    pq.write_table(pa.table(names), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"question": names["text"], "one": names["vector"], "two": list(-matrix)}), tmp_path / "b.parquet"
    )
    np.save(tmp_path / "c.npy", matrix)
    np.save(tmp_path / "d.npy", np.asfortranarray(matrix.astype(np.float64)))
    np.save(tmp_path / "g.npy", matrix.astype(">f4"))
    order = np.random.default_rng(2).permutation(COUNT)
    save_file({"vectors": torch.tensor(matrix)}, tmp_path / "e.safetensors")
    save_file({"v": torch.tensor(matrix[order]), "ids": torch.tensor(order)}, tmp_path / "f.safetensors")
    sources = ["a.parquet", "a.parquet:text,vector", "b.parquet:question,one"]
    sources += [f"{name}+{corpus}" for name in ("c.npy", "d.npy", "e.safetensors", "f.safetensors", "g.npy")]
    for source in sources:
        rows = read_vectors(f"{tmp_path}/{source}")
        assert list(rows["text"]) == texts["text"][:], source
        np.testing.assert_array_equal(np.asarray(rows[VECTORS], dtype=np.float32), matrix, err_msg=source)


@pytest.mark.promise(9)
def test_a_vector_with_nan_is_named_by_the_column_and_row_of_its_file(texts, corpus, matrix, tmp_path):
    matrix[17, 3] = np.nan
    names = {"question": texts["text"][:], "embedding": list(matrix)}
    pq.write_table(pa.table(names), tmp_path / "a.parquet")
    np.save(tmp_path / "b.npy", matrix)
    with pytest.raises(ValueError, match=r"a\.parquet.*: row 17 holds .* not finite in float32 \(column 'embedding';"):
        read_vectors(f"{tmp_path}/a.parquet:question,embedding")
    with pytest.raises(ValueError, match=r"corpus\.txt: row 17 holds .* not finite in float32 \(column 'b\.npy';"):
        read_vectors(f"{tmp_path}/b.npy+{corpus}")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("write", "source", "message"),
    [
        (lambda f, m: np.save(f / "v.npy", m[:-1]), "v.npy+corpus.txt", "holds 23 vectors, but .*corpus.txt 24 texts"),
        (
            lambda f, m: np.save(f / "v.npy", m[0]),
            "v.npy+corpus.txt",
            r"must hold floats of 16, .*, but holds float32",
        ),
        (lambda f, m: np.save(f / "v.npy", m.astype(np.int8)), "v.npy+corpus.txt", "but holds int8"),
        (lambda f, m: np.save(f / "v.npy", m.astype(np.longdouble)), "v.npy+corpus.txt", "but holds float128"),
        (lambda f, m: np.save(f / "v.npy", m[:, :0]), "v.npy+corpus.txt", "but holds float32, .24, 0."),
        (lambda f, m: np.save(f / "v.npy", m.astype(object)), "v.npy+corpus.txt", "is not an array of numbers"),
        (lambda f, m: np.save(f / "v.npy", m), "v.npy", "need the file of their texts"),
        (lambda f, m: (f / "v.npy").write_text("no"), "v.npy+corpus.txt", "is not an array of numbers"),
        (lambda f, m: None, "v.npy+corpus.txt", "There is no file"),
        (
            lambda f, m: pq.write_table(pa.table({"text": ["a"]}), f / "v.parquet"),
            "v.parquet",
            "of which none may be vectors",
        ),
        (
            lambda f, m: pq.write_table(pa.table({"text": ["a"], "x": [[1.0]], "y": [[1.0]]}), f / "v.parquet"),
            "v.parquet",
            "of which x, y may be vectors .* Name the columns",
        ),
        (
            lambda f, m: pq.write_table(pa.table({"text": ["a"], "x": [[1, 2]]}), f / "v.parquet"),
            "v.parquet:text,x",
            "the column 'x' must hold a vector for each row",
        ),
        (
            lambda f, m: save_file({"v": torch.tensor(m), "ids": torch.zeros(len(m), dtype=int)}, f / "v.safetensors"),
            "v.safetensors+corpus.txt",
            "ids must be the numbers 0 to 23, each once",
        ),
        (
            lambda f, m: save_file({"v": torch.tensor(m), "w": torch.tensor(m)}, f / "v.safetensors"),
            "v.safetensors+corpus.txt",
            "must hold one tensor of vectors, and perhaps ids, but holds v, w",
        ),
    ],
)
def test_files_that_are_not_vectors_of_texts_are_refused(write, source, message, corpus, matrix, tmp_path):
    write(tmp_path, matrix)
    source = "+".join(f"{tmp_path}/{part}" for part in source.split("+"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_vectors(source)


def test_vectors_are_found_by_the_text_and_not_by_its_place(texts, matrix):
    vectors = Dataset.from_dict({"text": texts["text"][:], VECTORS: list(matrix)})
    order = [7, 3, 20, 3]
    rows = with_vectors(texts.select(order), vectors, source="v")
    np.testing.assert_array_equal(np.stack(list(rows[VECTORS])), matrix[order])
    assert list(rows["text"]) == [texts["text"][i] for i in order]


@pytest.mark.promise(9)
def test_texts_without_a_vector_and_vectors_in_another_order_are_refused(texts, matrix):
    vectors = Dataset.from_dict({"text": texts["text"][:], VECTORS: list(matrix)})
    unknown = Dataset.from_dict({"text": [texts["text"][0], "an unknown text", "another"]})
    with pytest.raises(ValueError, match="2 of 3 texts have no vector in v; the first is row 1, 'an unknown text'"):
        with_vectors(unknown, vectors, source="v")
    twice = Dataset.from_dict({"text": ["a", "b", "a"], VECTORS: list(matrix[:3])})
    with pytest.raises(ValueError, match="rows 0 and 2 hold the same text, but vectors whose cosine is"):
        with_vectors(Dataset.from_dict({"text": ["a"]}), twice, source="v")
    again = Dataset.from_dict({"text": ["a", "b", "a"], VECTORS: list(matrix[[0, 1, 0]])})
    assert len(with_vectors(Dataset.from_dict({"text": ["a"]}), again, source="v")) == 1


# --- Of several teachers ----------------------------------------------------------------------------------------------


def test_cosines_of_concatenated_vectors_are_the_mean_of_the_teachers(texts):
    drawn = np.random.default_rng(3)
    made = [drawn.normal(size=(COUNT, width)) * scale for width, scale in ((12, 1.0), (7, 100.0), (30, 0.01))]
    sides = [texts.add_column(VECTORS, list(each.astype(np.float32))) for each in made]
    found = np.stack(list(combine_vectors(sides, "concatenate").with_format("numpy")[VECTORS]))
    assert found.shape == (COUNT, 49)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in made]
    np.testing.assert_allclose(found @ found.T, np.mean([each @ each.T for each in unit], axis=0), atol=1e-6)


def test_averaged_vectors_point_between_the_teachers_of_chosen_rows(texts):
    drawn = np.random.default_rng(3)
    made = [drawn.normal(size=(COUNT, 12)).astype(np.float32) for _ in range(2)]
    order = [5, 2, 9]
    sides = [texts.add_column(VECTORS, list(each)).select(order) for each in made]
    combined = combine_vectors(sides, "average")
    assert list(combined["text"]) == texts.select(order)["text"][:]
    found = np.stack(list(combined.with_format("numpy")[VECTORS]))
    unit = [each[order] / np.linalg.norm(each[order], axis=1, keepdims=True) for each in made]
    expected = unit[0] + unit[1]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.promise(9)
def test_vectors_that_can_not_be_combined_are_refused(texts):
    one, other = vectors_of_width(texts, 12), vectors_of_width(texts, 8)
    with pytest.raises(ValueError, match=r"Vectors of \[12, 8\] numbers have no average. Choose combine: concatenate"):
        combine_vectors([one, other], "average")
    with pytest.raises(ValueError, match=r"they have \[10, 24\] rows"):
        combine_vectors([one, other.select(range(10))], "concatenate")
    with pytest.raises(ValueError, match=r"Row 0 of two teachers' vectors is of different texts, '.*' and '"):
        combine_vectors([one, other.select(range(len(other) - 1, -1, -1))])
    with pytest.raises(ValueError, match="but not by 'sum'"):
        combine_vectors([one, one], "sum")
    ragged = texts.select(range(2)).add_column(VECTORS, [[1.0, 2.0], None])
    with pytest.raises(ValueError, match=r"Teacher 1 of those to combine \(from 0\): row 1 has no vector"):
        combine_vectors([one.select(range(2)), ragged])
    side, opposed = (texts.select(range(2)).add_column(VECTORS, [[1.0, 2.0], [sign, sign]]) for sign in (1.0, -1.0))
    with pytest.raises(ValueError, match=r"average of the vectors of row 1 is zero\. Choose 'concatenate'"):
        combine_vectors([side, opposed], "average")
    with pytest.raises(ValueError, match=r"they have \[0\] rows"):
        combine_vectors([one.select([]), other.select([])])
    with pytest.raises(ValueError, match=r"they have \[\] rows"):
        combine_vectors([])
    with pytest.raises(ValueError, match=f"needs vectors in its column {VECTORS}"):
        combine_vectors([one, texts])


def vectors_of_width(texts, width):
    return vectors_beside(texts, width).rename_column("vector", VECTORS)


# --- Written ----------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_encoder_under_any_prompt(teachers, texts, tmp_path):
    encoder = as_encoder(teachers[TEACHERS[0]])
    for number, named in enumerate(({}, {"prompt_name": "query"}, {"prompt": ""}, {"prompt": "a "})):
        given = texts["text"][:] if number == 1 else texts
        write_vectors(encoder, given, tmp_path / str(number), rows_per_part=10, **named)
        rows = read_vectors(str(tmp_path / str(number)))
        assert list(rows["text"]) == texts["text"][:]
        expected = encoder.encode(texts["text"][:], **named)
        torch.testing.assert_close(torch.tensor(np.array(rows[VECTORS])), expected, rtol=0, atol=1e-6)


def test_writing_goes_on_where_it_stopped_and_refuses_parts_of_something_else(teachers, texts, tmp_path, monkeypatch):
    encoder = as_encoder(teachers[TEACHERS[0]])
    calls, encode = [], SentenceEncoder.encode

    def counted(self, part, **named):
        calls.append(len(part))
        if len(calls) == 2:
            raise InterruptedError("the power is gone")
        return encode(self, part, **named)

    monkeypatch.setattr(SentenceEncoder, "encode", counted)
    with pytest.raises(InterruptedError):
        write_vectors(encoder, texts, tmp_path, rows_per_part=10)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]
    files = write_vectors(encoder, texts, tmp_path, rows_per_part=10)
    assert calls == [10, 10, 10, 4]
    assert sorted(tmp_path.iterdir()) == files
    assert write_vectors(encoder, texts, tmp_path, rows_per_part=10) == files
    assert len(calls) == 4
    others = {"prompt": "a "}, {"rows_per_part": 12}
    for other in others:
        with pytest.raises(StaleCacheError, match="another encoder, with another prompt or of other texts"):
            write_vectors(encoder, texts, tmp_path, **{"rows_per_part": 10} | other)
    with pytest.raises(StaleCacheError):
        write_vectors(encoder, texts.select(range(9)), tmp_path, rows_per_part=10)
    with pytest.raises(StaleCacheError):
        write_vectors(as_encoder(teachers[TEACHERS[1]]), texts, tmp_path, rows_per_part=10)
    assert sorted(tmp_path.iterdir()) == files


def write_on_a_rank(folder):
    tokenizer = tiny.tokenizer()
    modules = tiny.surrounding(max_length=20)
    texts = Dataset.from_dict({"text": tiny.sentences(COUNT, seed=2)})
    write_vectors(SentenceEncoder(tiny.model(), tokenizer, modules), texts, folder, rows_per_part=10)


def test_ranks_share_the_parts_and_write_what_one_process_writes(tmp_path):
    write_on_a_rank(tmp_path / "one")
    assert run_on_ranks(write_on_a_rank, 2, timeout=300, folder=str(tmp_path / "two")) == [0, 0]
    names = [[path.name for path in sorted((tmp_path / each).iterdir())] for each in ("one", "two")]
    assert names[0] == names[1] == [f"part-0000{number}.parquet" for number in range(3)]
    for name in names[0]:
        assert pq.read_table(tmp_path / "one" / name).equals(pq.read_table(tmp_path / "two" / name))
