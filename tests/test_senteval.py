"""SentEval's data and probes, against scikit-learn's parts put together by hand; `retort eval` from end to end."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from scripts import run_command
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, TranslationEvaluator
from senteval_folder import write_senteval
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from retort import DistillTrainer, shrink
from retort.data import STS_TASKS, TRANSFER_TASKS, read_scored_pairs, read_sts_task, read_transfer_task
from retort.evaluation import pair_features, probe, probe_by_folds, sts_scores, sts_spearman
from retort.evaluation.sentences import bitext_hits, load_embedder


@pytest.fixture(scope="module")
def senteval(tmp_path_factory):
    return write_senteval(tmp_path_factory.mktemp("senteval"))


def blobs(rows, classes=2, seed=0, spread=2.5):
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return draw.normal(size=(rows, 6)) * spread + np.eye(classes, 6)[labels] * 3, labels


# --- Probes -----------------------------------------------------------------------------------------------------------


def accuracy(train, test, strength):
    return LogisticRegression(C=strength, max_iter=1000).fit(*train).score(*test)


def best_strength(features, labels, strengths, folds):
    """As SentEval's loops find it."""
    means = []
    for strength in strengths:
        split = StratifiedKFold(folds, shuffle=True, random_state=1111).split(features, labels)
        means.append(
            np.mean([accuracy((features[a], labels[a]), (features[b], labels[b]), strength) for a, b in split])
        )
    return strengths[int(np.argmax(means))], max(means)


@pytest.mark.parametrize("folds", [5, 10])
def test_nested_folds_are_those_of_sentevals_loops(folds):
    features, labels = blobs(90)
    dev, test = [], []
    for a, b in StratifiedKFold(folds, shuffle=True, random_state=1111).split(features, labels):
        strength, score = best_strength(features[a], labels[a], [2**t for t in range(-2, 4)], folds)
        dev.append(score)
        test.append(accuracy((features[a], labels[a]), (features[b], labels[b]), strength))
    found = probe_by_folds(features, labels, folds=folds)
    assert (found.dev, found.test) == pytest.approx((np.mean(dev), np.mean(test)), abs=1e-6)
    assert found.f1 is None


@pytest.mark.parametrize("classes", [2, 6])
def test_a_test_side_is_scored_once_at_the_strength_that_folds_of_the_training_side_choose(classes):
    train, test = blobs(120, classes), blobs(60, classes, seed=1)
    strength, score = best_strength(*train, [2**t for t in range(-1, 6)], 10)
    found = probe(train, test)
    assert (found.dev, found.test) == pytest.approx((score, accuracy(train, test, strength)), abs=1e-6)
    if classes == 2:
        predicted = LogisticRegression(C=strength, max_iter=1000).fit(*train).predict(test[0])
        assert found.f1 == pytest.approx(f1_score(test[1], predicted), abs=1e-6)
    else:
        assert found.f1 is None


def test_a_development_side_chooses_and_is_not_trained_on():
    train, dev, test = blobs(60), blobs(40, seed=1), blobs(200, seed=2)
    scores = [accuracy(train, dev, 2.0**t) for t in range(-2, 4)]
    found = probe(train, test, dev)
    assert found.dev == pytest.approx(max(scores), abs=1e-6)
    assert found.test == pytest.approx(accuracy(train, test, 2.0 ** (np.argmax(scores) - 2)), abs=1e-6)


def test_pairs_are_read_by_distance_and_product():
    first, second = np.array([[1.0, -2.0]]), np.array([[3.0, 4.0]])
    assert pair_features(first, second).tolist() == [[2, 6, 3, -8]]


@pytest.mark.promise(9)
def test_a_class_too_small_for_the_folds_is_refused():
    features, labels = blobs(19)
    with pytest.raises(ValueError, match=r"10 folds need at least two classes with at least 10 rows .* have \[10, 9\]"):
        probe_by_folds(features, labels)


# --- Data -------------------------------------------------------------------------------------------------------------


def test_every_task_is_read(senteval):
    for name in STS_TASKS:
        subsets = read_sts_task(senteval, name)
        judged = 23 if name.startswith("STS1") else 24  # one pair of each subset has no score
        assert all(pairs.column_names == ["sentence1", "sentence2", "score"] for pairs in subsets.values())
        assert all(len(pairs) == judged for pairs in subsets.values())
    for name in TRANSFER_TASKS:
        splits = read_transfer_task(senteval, name)
        assert set(splits) == {
            "SST2": {"train", "dev", "test"},
            "TREC": {"train", "test"},
            "MRPC": {"train", "test"},
        }.get(name, {"train"})
        for rows in splits.values():
            assert len(rows.texts) == len(rows.labels) > 20
            assert (rows.second is not None) == (name == "MRPC")
            lengths = [len(text.split()) for text in rows.texts]
            assert lengths == sorted(lengths)


def test_the_positive_file_is_class_one_and_latin_1_is_read(senteval):
    rows = read_transfer_task(senteval, "MR")["train"]
    positive = (senteval / "MR/rt-polarity.pos").read_text(encoding="latin-1").split("\n")
    assert all(text.endswith("café") for text in rows.texts)
    assert {text for text, label in zip(rows.texts, rows.labels, strict=True) if label} <= set(positive)


def test_columns_are_the_right_ones(senteval):
    line = (senteval / "STS/STSBenchmark/sts-dev.csv").read_text().split("\n")[0].split("\t")
    pairs = read_sts_task(senteval, "STSBenchmark", "dev")["STSBenchmark"]
    assert list(pairs[0].values()) == [line[5], line[6], float(line[4])]
    line = (senteval / "SICK/SICK_trial.txt").read_text().split("\n")[1].split("\t")
    pairs = read_sts_task(senteval, "SICKRelatedness", "dev")["SICKRelatedness"]
    assert list(pairs[0].values()) == [line[1], line[2], float(line[3])]


def test_a_table_of_pairs_is_read_with_and_without_a_header(tmp_path):
    (tmp_path / "STS.en-de.txt").write_text("a b\tc\t2.5\nd\te\t0\n")
    (tmp_path / "test.tsv").write_text("score\tsentence2\tsentence1\n2.5\tc\ta b\n0\te\td\n")
    plain, headed = (read_scored_pairs(tmp_path / name) for name in ("STS.en-de.txt", "test.tsv"))
    assert plain.to_dict() == headed.to_dict()


@pytest.mark.promise(9)
def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no STS task 'STSB', only STS12"):
        read_sts_task(tmp_path, "STSB")
    with pytest.raises(ValueError, match="no transfer task 'SST', only MR"):
        read_transfer_task(tmp_path, "SST")


def test_marks_and_lone_returns_change_no_row(tmp_path):
    write_senteval(tmp_path)
    file = tmp_path / "SST" / "binary" / "sentiment-dev"
    file.write_bytes(b"\xef\xbb\xbfa b\rc\t1\r\nd\t0\r\n\n")
    rows = read_transfer_task(tmp_path, "SST2")["dev"]
    assert (rows.texts, rows.labels) == (["d", "a b c"], [0, 1])
    (tmp_path / "MR" / "rt-polarity.neg").write_bytes("\ufeffcafé\n".encode())
    assert "café" in read_transfer_task(tmp_path, "MR")["train"].texts


def test_the_last_pairs_may_not_have_been_judged(tmp_path):
    write_senteval(tmp_path)
    home = tmp_path / "STS" / "STS13-en-test"
    (home / "STS.input.FNWN.txt").write_text("a\tb\nc\td\ne\tf\n\n")
    (home / "STS.gs.FNWN.txt").write_text("1\n\n\n")
    pairs = read_sts_task(tmp_path, "STS13")["FNWN"]
    assert pairs.to_list() == [{"sentence1": "a", "sentence2": "b", "score": 1.0}]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("file", "contents", "task", "message"),
    [
        (
            "STS/STSBenchmark/sts-test.csv",
            "a\tb\tc\n",
            "STSBenchmark",
            r"sts-test\.csv:1: expected 7 columns, but found 3",
        ),
        ("STS/STSBenchmark/sts-test.csv", "", "STSBenchmark", r"sts-test\.csv is empty"),
        (
            "STS/STS13-en-test/STS.gs.FNWN.txt",
            "1\n",
            "STS13",
            r"FNWN\.txt has 24 pairs, but .*gs\.FNWN\.txt has 1 scores",
        ),
        (
            "STS/STS13-en-test/STS.gs.OnWN.txt",
            "x\n" * 24,
            "STS13",
            r"OnWN\.txt:1: expected a number, .* 'x'",
        ),
        (
            "TREC/TREC_10.label",
            "NUM:count How many ?\nWHAT:is this\n",
            "TREC",
            r"TREC_10\.label:2: expected CLASS:subclass text",
        ),
        (
            "SST/binary/sentiment-dev",
            "good\tpos\n",
            "SST2",
            r"sentiment-dev:1: expected a number, .* 'pos'",
        ),
        ("SST/binary/sentiment-dev", "good\t7\n", "SST2", r"sentiment-dev:1: expected a number, 0 or 1, .* '7'"),
        ("SST/binary/sentiment-dev", "good\t-1\n", "SST2", r"sentiment-dev:1: expected a number, 0 or 1, .* '-1'"),
        ("SST/binary/sentiment-dev", "good\tfilm\t1\n", "SST2", r"sentiment-dev:1: expected 2 columns, but found 3"),
        ("SST/binary/sentiment-dev", b"good\t1\ncaf\xe9\t0\n", "SST2", r"sentiment-dev:2: not UTF-8: byte 0xe9 at"),
        ("SST/binary/sentiment-dev", "\n\n", "SST2", r"sentiment-dev holds no rows"),
        ("MRPC/msr_paraphrase_test.txt", "1\t1\t2\ta\tb\n", "MRPC", r"test\.txt:1: expected a header row .* Quality"),
        ("MRPC/msr_paraphrase_test.txt", "Quality\t1\t2\ta\tb\n2\t1\t2\ta\tb\n", "MRPC", r"test\.txt:2: .*'2'"),
        ("SICK/SICK_test_annotated.txt", "1\ta\tb\t2\n", "SICKRelatedness", r"annotated\.txt:1: expected a header row"),
        *(
            (
                "STS/STSBenchmark/sts-test.csv",
                f"a\tb\tc\t1\t{score}\tx\ty\n",
                "STSBenchmark",
                rf"sts-test\.csv:1: .*{found}",
            )
            for score, found in (
                ("nan", "a number, but found 'nan'"),
                ("inf", "a number, but found 'inf'"),
                ("1_0", "a number, but found '1_0'"),
                ("7", "a score from 0 to 5, but found '7'"),
                ("-1", "a score from 0 to 5, but found '-1'"),
            )
        ),
        ("MR/rt-polarity.neg", None, "MR", r"There is no .*rt-polarity\.neg.*get_transfer_data\.bash"),
    ],
)
def test_a_slip_in_the_data_is_named_with_its_line(file, contents, task, message, tmp_path):
    write_senteval(tmp_path)
    (tmp_path / file).unlink()
    if contents is not None:
        (tmp_path / file).write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    read = read_sts_task if task in STS_TASKS else read_transfer_task
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(tmp_path, task)


# --- Scores -----------------------------------------------------------------------------------------------------------


def test_a_task_of_subsets_is_summed_up_three_ways(senteval):
    task = read_sts_task(senteval, "STS14")
    vectors = {text: torch.randn(5, generator=torch.Generator().manual_seed(len(text))) for pairs in task.values()
               for text in (*pairs["sentence1"], *pairs["sentence2"])}  # fmt: skip

    def embed(texts, progress=False):
        return torch.stack([vectors[text] + 0.01 * len(text) for text in texts])

    own = {name: sts_spearman(embed(p["sentence1"]), embed(p["sentence2"]), p["score"]) for name, p in task.items()}
    found = sts_scores(SimpleNamespace(encode=embed), task)
    assert found.subsets == own
    assert found.mean == pytest.approx(np.mean(list(own.values())))
    assert found.weighted == pytest.approx(found.mean)  # as many pairs in each
    together = [[x for p in task.values() for x in p[side]] for side in ("sentence1", "sentence2", "score")]
    assert found.all == pytest.approx(sts_spearman(embed(together[0]), embed(together[1]), together[2]))


def test_bitext_accuracy_is_that_of_sentence_transformers(sentence_student):
    model = SentenceTransformer(str(sentence_student), device="cpu")
    source, target = tiny.sentences(60, seed=1), tiny.sentences(60, seed=1)[:40] + tiny.sentences(20, seed=5)
    theirs = TranslationEvaluator(source, target)(model)
    sides = source, target
    there, back = (hits.double().mean() for hits in bitext_hits(*map(model.encode, sides), sides))
    ties = len(source) - len(set(source))
    assert there == pytest.approx(theirs["src2trg_accuracy"], abs=ties / 60)
    assert back == pytest.approx(theirs["trg2src_accuracy"], abs=ties / 60)


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentence_student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    teacher, tokenizer = tiny.model("bert", layers=4), tiny.tokenizer()
    args = tiny.arguments(folder, embedding_weight=1.0)
    DistillTrainer(shrink(teacher, layers=2), teacher, args, processing_class=tokenizer).save_model()
    return folder


def evaluate(*flags):
    return run_command("eval", *flags)


def test_a_model_is_scored_on_everything(senteval, sentence_student, tmp_path):
    pairs = read_sts_task(senteval, "STSBenchmark")["STSBenchmark"]
    first, second, gold = pairs.to_dict().values()
    lines = [f"{a}\t{b}\t{s}" for a, b, s in zip(first, second, gold, strict=True)]
    (tmp_path / "STS.xx-yy.txt").write_text("\n".join(lines))
    for name, columns in (("xx", (first, first)), ("yy", (second, second))):
        rows = ["sentence1\tsentence2\tscore", *map("\t".join, zip(*columns, map(str, gold), strict=True))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(rows))
    (tmp_path / "bitext.tsv").write_text("".join(f"{text}\t{text}\n" for text in dict.fromkeys(first)))
    (tmp_path / "cls").mkdir()
    for split, seed in (("train", 1), ("test", 2)):
        rows = [f"{text}\t{'long' if len(text.split()) > 6 else 'short'}\n" for text in tiny.sentences(80, seed=seed)]
        (tmp_path / "cls" / f"{split}.tsv").write_text("".join(rows))
    flags = ["--model", sentence_student, "--senteval", senteval, "--task_set", "full", "--mode", "fasttest"]
    flags += [
        "--sts",
        f"xx-yy={tmp_path}/STS.xx-yy.txt",
        f"both={tmp_path}/xx.tsv+{tmp_path}/yy.tsv",
        "--bitext",
        f"xx={tmp_path}/bitext.tsv",
    ]
    printed = evaluate(*flags, "--probe", f"own={tmp_path}/cls", "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert list(scores["STS"]) == [*STS_TASKS, "xx-yy", "both"]
    assert list(scores["Transfer"]) == [*TRANSFER_TASKS, "own"]
    assert scores["STS"]["STSBenchmark"]["all"] == scores["STS"]["xx-yy"]["all"] == scores["STS"]["both"]["all"]
    assert scores["Translations"]["xx"] == {"all": 1.0, "there": 1.0, "back": 1.0}
    assert scores["Transfer"]["own"]["test"] > 0.7
    model = SentenceTransformer(str(sentence_student), device="cpu")
    theirs = EmbeddingSimilarityEvaluator(first, second, [score / 5 for score in gold])(model)
    assert scores["STS"]["xx-yy"]["all"] == pytest.approx(theirs["spearman_cosine"], abs=1e-6)
    assert f"{100 * scores['STS']['STS12']['all']:.2f}" in printed


@pytest.mark.promise(9)
def test_numbers_are_not_probed(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text("a cat\t0.5\na dog\t1.25\n")
    with pytest.raises(AssertionError, match=f"--probe own: the labels in {tmp_path} are numbers, but a probe is for"):
        evaluate("--model", tmp_path, "--probe", f"own={tmp_path}")


@pytest.mark.promise(9)
def test_files_that_do_not_translate_each_other_are_refused(sentence_student, tmp_path):
    for name, score in (("xx", 1), ("yy", 2)):
        (tmp_path / f"{name}.tsv").write_text(f"sentence1\tsentence2\tscore\na\tb\t{score}\n")
    with pytest.raises(AssertionError, match="their scores differ"):
        evaluate("--model", sentence_student, "--sts", f"{tmp_path}/xx.tsv+{tmp_path}/yy.tsv")


def test_dev_mode_never_reads_a_test_side(senteval, sentence_student, tmp_path):
    flags = ["--model", sentence_student, "--senteval", senteval, "--mode", "dev", "--output", tmp_path / "scores.json"]
    evaluate(*flags, "--tasks", "STS12", "STSBenchmark", "SST2")
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert list(scores["STS"]) == ["STSBenchmark"]
    assert list(scores["Transfer"]["SST2"]) == ["all"]


def test_raw_weights_are_read_into_a_base_model_and_missing_ones_refused(sentence_student, senteval, tmp_path):
    from safetensors.torch import load_file

    weights = load_file(sentence_student / "model.safetensors")
    weights = {f"module.{name}": tensor for name, tensor in weights.items()} | {"extra": torch.ones(1)}
    torch.save(weights, tmp_path / "s.pth")
    flags = ["--state_dict", tmp_path / "s.pth", "--base_model", sentence_student, "--senteval", senteval]
    printed = evaluate(*flags, "--tasks", "STS13", "--pooler", "mean")
    assert "1 weights are not in this architecture: extra" in printed
    weights.pop("module.encoder.layer.1.output.dense.bias")
    torch.save(weights, tmp_path / "s.pth")
    with pytest.raises(AssertionError, match=r"lacks 1 weights .*: encoder.layer.1.output.dense.bias"):
        evaluate(*flags, "--tasks", "STS13", "--pooler", "mean")


def test_raw_weights_are_not_rounded_to_the_saved_precision_of_the_base_model(tokenizer, tmp_path):
    model = tiny.model()
    torch.save(model.state_dict(), tmp_path / "s.pth")
    tiny.model().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    found = load_embedder(None, "mean", 16, state_dict=str(tmp_path / "s.pth"), base=str(tmp_path / "base")).model
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in found.state_dict().items())


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "x"], "Nothing to score"),
        (["--task_set", "sts"], "pass --model, or --state_dict with --base_model"),
        (["--model", "m", "--base_model", "b"], "--base_model is for --state_dict: leave it out"),
        (["--model", "m", "--max_length", "0"], "argument --max_length: '0' is not a whole number of at least 1"),
        (["--model", "m", "--sts", "x=a.tsv", "x=b.tsv"], "--sts: x is the name of several files. Pass NAME=FILE."),
        (
            ["--model", "x", "--senteval", "s", "--tasks", "MR", "--probe", "MR=cls"],
            "--probe: MR is the name of a task of SentEval. Pass another NAME=FILE.",
        ),
        (["--model", "x", "--task_set", "sts"], "--tasks and --task_set need --senteval FOLDER"),
        (["--model", "x", "--senteval", "s", "--sts", "x=a.tsv"], "name them with --tasks or --task_set"),
        (["--model", "x", "--sts", "x=a.tsv", "--output", "."], "argument --output: . is a folder. Name a file"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(flags, message):
    with pytest.raises(AssertionError, match=message):
        evaluate(*flags)
