"""Time to read and collate a batch, with rows from `datasets` and with rows that are slices of Arrow columns.

python benchmarks/cost/loader.py [--rows 128] [--tokens 160] [--rounds 50]

Reads random rows of a dataset on disk and collates them on one thread, both ways in turn. The rows have

- `tokens`: only input_ids;
- `two tokenizers`: a teacher's tokens and labels, too;
- `cached embedding`, `cached states`: a teacher's embedding, or one layer's hidden states, from a cache;
- `pairs`: two texts each.

Prints medians of CPU time in ms. It passes if reading and collating `tokens` takes at most 2 ms.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets, disable_progress_bars

from retort.collators import DistillationCollator, GroupCollator, InputFormat
from retort.data import ArrowRows

MOST_MS = 2.0
WIDTH = 384
POOL = 4096  # rows to draw from
HALF = Value("float16")
IDS = List(Value("int32"))


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of a function in milliseconds, which doesn't depend on the load of the machine."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def ids_of(draw: np.random.Generator, lengths: np.ndarray) -> list[np.ndarray]:
    """Random token ids of rows with these lengths."""
    return [draw.integers(5, 30_000, length, dtype=np.int32) for length in lengths]


def datasets_of(folder: Path, tokens: int) -> dict[str, Dataset]:
    """Datasets on disk, with rows of half to one and a half times `tokens` tokens."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(tokens // 2, tokens * 3 // 2, POOL)
    ids = ids_of(draw, lengths)
    few = slice(512)
    states = [draw.normal(size=(length, WIDTH)).astype(np.float16) for length in lengths[few]]
    columns = {
        "tokens": ({"input_ids": ids}, {"input_ids": IDS}),
        "two tokenizers": (
            {"input_ids": ids, "teacher_input_ids": ids_of(draw, lengths), "labels": ids},
            {"input_ids": IDS, "teacher_input_ids": IDS, "labels": IDS},
        ),
        "cached embedding": (
            {"input_ids": ids, "teacher_embedding": draw.normal(size=(POOL, WIDTH)).astype(np.float16)},
            {"input_ids": IDS, "teacher_embedding": List(HALF, length=WIDTH)},
        ),
        "cached states": (
            {"input_ids": ids[few], "teacher_hidden_state_3": states},
            {"input_ids": IDS, "teacher_hidden_state_3": List(List(HALF, length=WIDTH))},
        ),
        "pairs": (
            {"members": list(zip(ids_of(draw, lengths // 2), ids_of(draw, lengths // 2), strict=True))},
            {"members": List(IDS)},
        ),
    }
    made = {}
    for name, (values, features) in columns.items():
        # A cache has files of its own, and its columns are joined to those of the rows.
        sides = [[each for each in values if each.startswith("teacher_") == is_cached] for is_cached in (False, True)]
        sides = sides if "cached" in name else [list(values)]
        for number, side in enumerate(filter(None, sides)):
            part = {each: values[each] for each in side}
            kinds = Features({each: features[each] for each in side})
            Dataset.from_dict(part, features=kinds).save_to_disk(folder / f"{name} {number}")
        parts = [Dataset.load_from_disk(str(path)) for path in sorted(folder.glob(f"{name} [01]"))]
        made[name] = concatenate_datasets(parts, axis=1)
    return made


def main() -> None:
    """Time both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=128, help="Rows per batch.")
    parser.add_argument("--tokens", type=int, default=160, help="Mean number of tokens per row.")
    parser.add_argument("--rounds", type=int, default=50, help="Number of timed batches, each way.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    draw = np.random.default_rng(1)
    plain = DistillationCollator(InputFormat(0, packed=True))
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':20}{'datasets: read':>16}{'collate':>10}{'Arrow: read':>14}{'collate':>10}{'ratio':>8}")
        passed = True
        for name, rows in datasets_of(Path(folder), options.tokens).items():
            # Rows with a cache are read as arrays, since lists of so many numbers take ten times as long.
            given = rows.with_format("numpy") if "cached" in name else rows
            arrays, collate = ArrowRows(rows), GroupCollator(plain) if name == "pairs" else plain
            ways = {road: ([], []) for road in ("datasets", "arrow")}
            for _ in range(options.rounds):
                places = draw.choice(len(rows), options.rows, replace=False).tolist()
                for road, source in (("datasets", given), ("arrow", arrays)):
                    read, collated = ways[road]
                    batch = []
                    read.append(milliseconds(lambda s=source, b=batch, p=places: b.extend(s.__getitems__(p))))
                    collated.append(milliseconds(lambda c=collate, b=batch: c(b)))
            before, after = ([statistics.median(each) for each in ways[road]] for road in ("datasets", "arrow"))
            ratio = sum(before) / sum(after)
            print(
                f"{name:20}{before[0]:16.2f}{before[1]:10.2f}{after[0]:14.2f}{after[1]:10.2f}{ratio:7.1f}x", flush=True
            )
            passed &= name != "tokens" or sum(after) <= MOST_MS
    print("PASS" if passed else f"FAIL: more than {MOST_MS} ms")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
