"""Train query encoders of several depths in the embedding space of all-MiniLM-L6-v2, by `small_leaf` on more text.

python benchmarks/query_encoders.py [--layers 1 2 4] [--texts 60000] [--queries 20000] [--output_dir FOLDER]
    [key=value ...]

Texts are passages of docstrings: those of `small_leaf` (Python's standard library), and of the packages that are
installed beside retort. Queries are `small_leaf`'s and first sentences of the packages' docstrings. A test query is a
docstring's summary. The teacher encodes the details of all docstrings of the test modules, and the query has to find
its own. No text of the test set is trained on. The teacher's embeddings are cached once for all depths. If it is
started again, it continues where it was; for other numbers of texts or queries, name another folder. `--layers` without
a number writes the texts only.
"""

import argparse
import json
import random
import sysconfig
from pathlib import Path

from datasets import Dataset

from retort import read_recipe, run_recipe
from retort.data import docstring_corpus
from retort.data.readers import library_docstrings, passages, split_sentences
from retort.evaluation.report import aligned

METRIC = "docstrings MRR@10"


def main() -> None:
    """Train all depths, and print their table."""
    options = parse_options()
    folder = Path(options.output_dir)
    note, numbers = folder / "texts", f"--texts {options.texts} --queries {options.queries}"
    if not note.exists():
        write_texts(folder, options.texts, options.queries)
        note.write_text(numbers)
    if note.read_text() != numbers:
        raise SystemExit(f"{folder} has the texts of {note.read_text()}. Name another --output_dir.")
    reports = {}
    for layers in options.layers:
        run_recipe(read_recipe("small_leaf", [*changes_of(folder, layers), *options.changes]))
        reports[layers] = json.loads((folder / str(layers) / "report.json").read_text())
    if reports:
        print("\n" + "\n".join(aligned(table(reports), gap=2)))


def table(reports: dict[int, dict]) -> list[list[str]]:
    """A line for each depth: its scores, and their shares of the teacher's."""
    metrics = [name for name in reports[next(iter(reports))]["rows"][0]["quality"] if name.startswith(METRIC)]
    lines = [["layers", *(heading for name in metrics for heading in (name, "% of teacher")), "speed-up"]]
    for layers, report in reports.items():
        teacher, student = (
            next(row for row in report["rows"] if row["role"] == role) for role in ("teacher", "student")
        )
        cells = [str(layers)]
        for name in metrics:
            found, reference = student["quality"][name], teacher["quality"][name]
            cells += [f"{found:.4f}", f"{100 * found / reference:.1f}"]
        lines.append([*cells, f"{student['speed']['speedup']:.1f}"])
    return lines


def changes_of(folder: Path, layers: int) -> list[str]:
    """What differs from `small_leaf`."""
    return [
        "data.corpus=null",
        f"data.train_files=[{folder}/documents.jsonl:text]",
        f"data.query_files=[{folder}/queries.jsonl:text]",
        f"evaluation.retrieval.docstrings={folder}/retrieval.jsonl:summary,details",
        f"student.layers={layers}",
        "stages.documents.cache_teacher=false",
        "stages.queries.cache_teacher=false",
        f"stages.documents.teacher_cache={folder}/teacher_documents",
        f"stages.queries.teacher_cache={folder}/teacher_queries",
        "stages.documents.per_device_train_batch_size=64",
        "stages.queries.per_device_train_batch_size=64",
        "stages.documents.num_train_epochs=3",
        "stages.documents.learning_rate=1e-3",
        "stages.queries.num_train_epochs=6",
        "stages.queries.learning_rate=3e-4",
        f"output_dir={folder}/{layers}",
    ]


def write_texts(folder: Path, count: int, count_of_queries: int) -> None:
    """Write documents, queries and the test pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    own = docstring_corpus()
    installed = library_docstrings(sysconfig.get_path("purelib"))
    sentences = [{"text": t, "module": d.module} for d in installed for t in split_sentences(d.text)]
    held_out = {text for name in ("summary", "details") for text in own.pairs["test"][name]}
    held_out |= set(own.sentences["test"]["text"]) | set(own.sentences["dev"]["text"])
    more = [text for text in passages(Dataset.from_list(sentences), source="module")["text"] if text not in held_out]
    documents = passages(own.sentences["train"], source="module")["text"][:]
    more = sorted(set(more) - set(documents))
    documents += random.Random(0).sample(more, min(len(more), max(0, count - len(documents))))
    firsts = [found[0] for docstring in installed if (found := split_sentences(docstring.text))]
    queries = own.pairs["train"]["summary"][:]
    more = sorted(set(firsts) - set(queries) - held_out)
    queries += random.Random(0).sample(more, min(len(more), count_of_queries))
    Dataset.from_dict({"text": documents}).to_json(folder / "documents.jsonl")
    Dataset.from_dict({"text": queries}).to_json(folder / "queries.jsonl")
    own.pairs["test"].to_json(folder / "retrieval.jsonl")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes of the recipe")
    parser.add_argument("--layers", type=int, nargs="*", default=[1, 2, 4], help="depths (default: 1 2 4)")
    parser.add_argument("--texts", type=int, default=60_000, help="documents to train on (default: 60000)")
    parser.add_argument("--queries", type=int, default=20_000, help="queries of packages to train on (default: 20000)")
    parser.add_argument("--output_dir", default="runs/benchmarks/query_encoders", help="(default: %(default)s)")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    main()
