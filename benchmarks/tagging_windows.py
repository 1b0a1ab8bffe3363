"""What a tagger loses on rows that are longer than it reads, in windows of several lengths.

python benchmarks/tagging_windows.py --train uner/en_ewt/dev.conll wikigold/en/train.conll --test uner/en_ewt/test.conll

Sentences are joined into rows of some 300 words. For each length a model of few layers is fine-tuned in windows of so
many tokens, for the same number of epochs, and scored at all lengths. One table gives F1 of the entities of the test
rows, in percent, mean over seeds; another one counts windows and words without a prediction, and the words that would
have none if rows were cut.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import transformers
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from retort import DistillTrainer, DistillTrainingArguments, read_task, shrink, tokenize
from retort.evaluation import Tagger, entity_scores
from retort.evaluation.report import aligned
from retort.recipes import read_recipe
from retort.recipes.tasks import with_head


def main() -> None:
    """Join, fine-tune, score, print."""
    options = parse_options()
    transformers.logging.set_verbosity_error()
    task = read_task("tagging", train=options.train, test=options.test)
    train, test = (joined(task.splits[split], options.words) for split in ("train", "test"))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    scores: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    counts = {}
    for seed in range(options.seeds):
        for length in options.lengths:
            model = shrink(with_head(options.model, task, seed), layers=options.layers)
            fine_tune(model, tokenizer, train, length, options, seed)
            for read_at in options.lengths:
                found = Tagger(model, tokenizer, max_length=read_at, stride=options.stride)(test["words"])
                tags = [[word.tag for word in row] for row in found]
                gold = [[task.labels[label] for label in row] for row in test["labels"]]
                scores[length, read_at].append(100 * entity_scores(gold, tags).micro.f1)
                counts[read_at] = count(test, tags, tokenizer, read_at, options.stride)
                f1 = scores[length, read_at][-1]
                print(f"seed {seed}, trained at {length}, read at {read_at}: {f1:.2f}", flush=True)
    print(f"\n{len(train)} and {len(test)} rows of {options.words} words\n")
    lines = [["F1, trained at", *(f"read at {length}" for length in options.lengths)]]
    lines += [[str(at), *(f"{fmean(scores[at, read]):.2f}" for read in options.lengths)] for at in options.lengths]
    print("\n".join(aligned(lines, gap=2)) + "\n")
    names = ("windows", "words without a prediction", "words lost by cutting")
    print("\n".join(aligned([["read at", *names], *([str(at), *map(str, counts[at])] for at in counts)], gap=2)))


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train", nargs="+", required=True, metavar="FILE", help="tagged sentences, as read_task takes"
    )
    parser.add_argument("--test", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--model", default=read_recipe("small_ner").teacher, help="default: that of small_ner.yaml")
    parser.add_argument("--layers", type=int, default=3, help="of it that are kept")
    parser.add_argument("--words", type=int, default=300, help="of a row")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512], help="tokens of a window")
    parser.add_argument("--stride", type=int, help="tokens that windows share; default: a quarter of a window")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


def joined(sentences: Dataset, words: int) -> Dataset:
    """Rows of so many words, made of sentences in their order; the last row may have fewer."""

    def rows() -> Iterator[dict[str, list]]:
        row: dict[str, list] = {"words": [], "labels": []}
        for sentence in sentences:
            for name, values in row.items():
                values += sentence[name]
            while len(row["words"]) >= words:
                yield {name: values[:words] for name, values in row.items()}
                row = {name: values[words:] for name, values in row.items()}
        if row["words"]:
            yield row

    return Dataset.from_list(list(rows()))


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    length: int,
    options: argparse.Namespace,
    seed: int,
) -> None:
    """Learn the tags in windows of some length, in steps of about as many tokens whatever the length."""
    windows = tokenize(rows, tokenizer, words="words", labels="labels", max_length=length, stride=options.stride)
    with tempfile.TemporaryDirectory() as folder:
        args = DistillTrainingArguments(
            output_dir=folder,
            seed=seed,
            label_weight=1.0,
            learning_rate=3e-4,
            warmup_steps=0.1,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=max(1, 1024 // length),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        DistillTrainer(model, None, args, train_dataset=windows, processing_class=tokenizer).train()


def count(
    rows: Dataset, tags: list[list[str]], tokenizer: PreTrainedTokenizerBase, length: int, stride: int | None
) -> tuple[int, int, int]:
    """Windows, words without a prediction, and words that would have none if rows were cut."""
    windows = tokenize(rows, tokenizer, words="words", labels="labels", max_length=length, stride=stride)
    cut = tokenizer([" ".join(words) for words in rows["words"]], truncation=True, max_length=length)
    seen = 0
    for index, words in enumerate(rows["words"]):
        end = max(end for _, end in cut[index].offsets)
        seen += sum(len(" ".join(words[: place + 1])) - len(word) < end for place, word in enumerate(words))
    every = sum(map(len, rows["words"]))
    return len(windows), every - sum(map(len, tags)), every - seen


if __name__ == "__main__":
    main()
