"""What a large corpus costs: tokenising it, starting on it from a finished cache, and memory, next to a small one.

python benchmarks/cost/large_corpus.py [--rows 10000 1000000] [--folder FOLDER]

For each number of rows, processes of their own

- `tokenise`: read a text file and tokenise it, next to the bare tokenizer on the same texts in batches of as many;
- `cache`: write a small teacher's embeddings for all rows;
- `start`: read and tokenise again (both come from datasets' cache), make a trainer without the teacher, from its cache
  alone, and train 20 steps. Seconds to the beginning of the first step are counted from the beginning of the process's
  work, imports left out.

It passes if `start` on 10 million rows would take at most 180 seconds, by the seconds that each row adds between the
two numbers of rows; if the memory at its peak, of any of the processes, is within 1.3 times that of the few rows (pages
of memory-mapped files, which the system takes back when it needs them, left out); and if tokenising has 80 % of the
bare tokenizer's speed, by CPU seconds, on one thread in both. All other times are by the wall clock, memory in MB.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import datasets
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, TrainerCallback, set_seed

from retort import DistillTrainer, DistillTrainingArguments, read_dataset, shrink, tokenize

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = 4000
BATCH = 1000  # texts that a tokenizer is given at once
SECONDS, MEMORY, SPEED = 180, 1.3, 0.8


def write_texts(file: Path, count: int) -> None:
    """Texts of 4 to 30 words of 3 to 12 letters; frequent words are frequent."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 12))) for _ in range(WORDS)]
    with file.open("w") as out:
        for _ in range(count):
            chosen = (words[int(WORDS * draw.random() ** 3)] for _ in range(draw.randint(4, 30)))
            out.write(" ".join(chosen) + "\n")


def tokenizer_of(file: Path) -> PreTrainedTokenizerFast:
    """Word pieces: half of the corpus's words whole, the others in letters."""
    with file.open() as lines:
        words = sorted({word for _, line in zip(range(10_000), lines, strict=False) for word in line.split()})[::2]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words]
    backend = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **named)


class Watch:
    """Reads, 50 times a second, how much memory the process has that no file stands behind."""

    def __init__(self):
        self.peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            held = sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
            self.peak = max(self.peak, held / 1024)
            time.sleep(0.02)


class FirstStep(TrainerCallback):
    """Notes when the first step begins."""

    at = None

    def on_step_begin(self, args, state, control, **kwargs):
        self.at = self.at or time.perf_counter()


def teacher_and_student(vocabulary: int) -> tuple[BertModel, BertModel]:
    """As small as can be: what is timed is not the models."""
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    teacher = BertModel(BertConfig(vocab_size=vocabulary, max_position_embeddings=130, **sizes)).eval()
    return teacher, shrink(teacher, layers=1)


def measure(part: str, folder: Path) -> dict[str, float]:
    """One part, in this process."""
    watch, start = Watch(), time.perf_counter()
    texts = folder / "texts.txt"
    tokenizer = tokenizer_of(texts)
    rows = read_dataset(texts)
    read, computed = time.perf_counter(), time.process_time()
    tokens = tokenize(rows, tokenizer)
    tokenised = time.perf_counter()
    told = {"reading": read - start, "tokenising": tokenised - read}
    if part == "tokenise":
        ours = time.process_time() - computed
        for first in range(0, len(rows), BATCH):
            tokenizer(rows[first : first + BATCH]["text"], truncation=True, max_length=128)
        bare = time.process_time() - computed - ours
        return told | {"CPU": ours, "CPU of the bare tokenizer": bare, "peak": watch.peak}
    teacher, student = teacher_and_student(len(tokenizer))
    args = DistillTrainingArguments(
        output_dir=str(folder / "run"),
        teacher_cache=str(folder / "cache"),
        embedding_weight=1.0,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=256,
        train_sampling_strategy="group_by_length",
        max_steps=20,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
    )
    callback = FirstStep()
    teacher = teacher if part == "cache" else None
    trainer = DistillTrainer(
        student, teacher, args, train_dataset=tokens, processing_class=tokenizer, callbacks=[callback]
    )
    made = time.perf_counter()
    if part == "cache":
        return told | {"caching": made - tokenised, "peak": watch.peak}
    trainer.train()
    first = callback.at
    return told | {"trainer": made - tokenised, "to step 1": first - made, "start": first - start, "peak": watch.peak}


def in_a_process(part: str, folder: Path) -> dict[str, float]:
    """One part, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "datasets")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Write corpora, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(10_000, 1_000_000), help="few and many")
    parser.add_argument("--folder", type=Path, help="keep all files here")
    parser.add_argument("--part", choices=("tokenise", "cache", "start"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        datasets.disable_progress_bars()
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(1)
        print(json.dumps(measure(options.part, options.folder)))
        return 0
    measured = []
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for count in options.rows:
            folder = Path(scratch) / str(count)
            folder.mkdir()
            write_texts(folder / "texts.txt", count)
            measured.append({part: in_a_process(part, folder) for part in ("tokenise", "cache", "start")})
            for part, told in measured[-1].items():
                figures = ", ".join(f"{name} {value:.1f}" for name, value in told.items())
                print(f"{count:>9,} rows, {part:8}: {figures}", flush=True)
    few, many = measured
    per_row = (many["start"]["start"] - few["start"]["start"]) / (options.rows[1] - options.rows[0])
    seconds = many["start"]["start"] + max(per_row, 0) * (10_000_000 - options.rows[1])
    memory = max(many[part]["peak"] / few[part]["peak"] for part in few)
    speed = many["tokenise"]["CPU of the bare tokenizer"] / many["tokenise"]["CPU"]
    print(f"start on 10,000,000 rows: {seconds:.0f} s (at most {SECONDS})")
    print(f"memory: {memory:.2f} times (at most {MEMORY})")
    print(f"tokenising: {100 * speed:.0f} % of the bare tokenizer's speed (at least {100 * SPEED:.0f} %)")
    return int(seconds > SECONDS or memory > MEMORY or speed < SPEED)


if __name__ == "__main__":
    raise SystemExit(main())
