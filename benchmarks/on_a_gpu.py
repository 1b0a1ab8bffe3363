"""Time retort's training steps on a GPU, and what they are made of.

python benchmarks/on_a_gpu.py [--parts target peers shapes ckd compile] [--tiny]

- `target`: a student of six of twelve layers of 768, cached teacher, bf16, 128 rows of 30 to 256 tokens (162 in the
  mean), attention by one kernel for all rows. It passes with 2,600 sentences/s and no wait for the device.
- `peers`: the same student by sentence-transformers' trainer (bf16, its default attention, the teacher's vectors in a
  column), in turns with retort. It passes with 2.5 times its speed on mixed rows, and 1.5 times on short ones.
- `shapes`: each back end of attention on short, mixed and long rows, six layers of 384 and of 768.
- `ckd`: a step of CKDTrainer with a queue of 65,536, next to one of DistillTrainer; a live teacher.
- `compile`: as `target`, with --torch_compile.

Models have random weights and rows random words, of lengths drawn from a fixed seed: neither changes how long a step
takes. Steps are timed from the end of one to the end of another, fetching of batches included, after some that warm
up. Then some are profiled (kernels started, time on the device) and some run while torch tells of every operation that
waits for the device. `--tiny` runs all of it on a CPU in a minute, with small models, to see that it runs.
"""

import argparse
import gc
import json
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback, set_seed
from transformers.utils import logging

from retort import CKDTrainer, DistillTrainer, shrink

CUDA = torch.cuda.is_available()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Shortest and longest row, and the power to which a uniform draw is raised: the lower, the more long rows.
LENGTHS = {"short": (6, 40, 1.0), "mixed": (30, 256, 0.71), "long": (256, 512, 1.0)}
HIDDEN = {"base": (768, 12, 3072), "small": (384, 12, 1536)}
QUEUE = 65_536


@dataclass(frozen=True)
class Sizes:
    """How large and how long the measurements are."""

    rows: int = 128
    layers: int = 12
    vocabulary: int = 30_522
    warm: int = 20
    timed: int = 60
    profiled: int = 5
    watched: int = 5
    queue: int = QUEUE

    @property
    def steps(self) -> int:
        """Of a run; the last one is not watched, since the run's end reads the loss."""
        return self.warm + self.timed + self.profiled + self.watched + 1


TINY = Sizes(rows=8, layers=2, vocabulary=300, warm=2, timed=4, profiled=2, watched=2, queue=64)


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words w0, w1, … are a token each."""
    words = {word: index for index, word in enumerate([*SPECIAL, *(f"w{i}" for i in range(vocabulary - 5))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **named)


def rows_of(kind: str, count: int, vocabulary: int) -> Dataset:
    """Tokenised rows of random words."""
    shortest, longest, power = LENGTHS[kind]
    generator = np.random.default_rng(0)
    lengths = (shortest + (longest + 1 - shortest) * generator.random(count) ** power).astype(int)
    words = generator.integers(5, vocabulary, int(lengths.sum()), dtype=np.int64)
    parts = np.split(words, lengths.cumsum()[:-1])
    for part in parts:
        part[0], part[-1] = 2, 3
    return Dataset.from_dict({"input_ids": parts, "length": lengths})


def texts_of(rows: Dataset) -> list[str]:
    """The same rows as strings."""
    return [" ".join(f"w{i - 5}" for i in ids[1:-1]) for ids in rows["input_ids"]]


def models_of(size: str, sizes: Sizes, *, live: bool) -> tuple[BertModel, BertModel]:
    """A teacher and a student of half its layers. Of one that is not live only the vectors matter: it has one layer."""
    width, heads, feed_forward = (64, 4, 128) if sizes is TINY else HIDDEN[size]
    set_seed(0)
    shape = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": feed_forward}
    teacher = BertModel(BertConfig(vocab_size=sizes.vocabulary, num_hidden_layers=sizes.layers, **shape)).eval()
    student = shrink(teacher, layers=sizes.layers // 2)
    return (teacher if live else shrink(teacher, layers=1)), student


def flops_of(student: BertModel, tokens: float) -> float:
    """Floating-point operations of a step's matrix products outside attention, forward and backward."""
    config = student.config
    weights = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return 6 * tokens * config.num_hidden_layers * weights


class Clock(TrainerCallback):
    """Times, profiles and watches some of a run's steps."""

    def __init__(self, sizes: Sizes, *, brief: bool = False):
        self.sizes, self.brief, self.waits = sizes, brief, Counter()
        self.seconds, self.memory, self.profile = 0.0, 0, None

    def on_step_end(self, args, state, control, **named):
        """Begin and end what is measured."""
        sizes, done = self.sizes, state.global_step
        timed = sizes.warm + sizes.timed
        if done == sizes.warm:
            self._synchronize()
            self.seconds = -time.perf_counter()
        if done == timed:
            self._synchronize()
            self.seconds += time.perf_counter()
            self.memory = torch.cuda.max_memory_allocated() if CUDA else 0
            control.should_training_stop = self.brief
            if not self.brief:
                self.profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])])
                self.profile.start()
        if done == timed + sizes.profiled:
            self._synchronize()
            self.profile.stop()
            self._watch(True)
        if done == sizes.steps - 1:
            self._watch(False)

    def _synchronize(self) -> None:
        if CUDA:
            torch.cuda.synchronize()

    def _watch(self, on: bool) -> None:
        if CUDA:
            warnings.simplefilter("always" if on else "default")
            self._told, warnings.showwarning = (warnings.showwarning, self._notice) if on else (None, self._told)
            torch.cuda.set_sync_debug_mode("warn" if on else "default")

    def _notice(self, message, *arguments, **named) -> None:
        if "synchroniz" in str(message):
            stack = [f for f in traceback.extract_stack() if "warnings.py" not in f.filename]
            places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in stack[:-1]]
            self.waits[" < ".join(reversed(places[-5:]))] += 1

    def run(self, trainer) -> dict:
        """Train, and tell what was found, a step."""
        trainer.add_callback(self)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        sizes, found = self.sizes, {"ms": 1000 * self.seconds / self.sizes.timed}
        found |= {"sentences/s": sizes.rows * sizes.timed / self.seconds, "GiB": self.memory / 2**30}
        if self.profile is None:
            return found
        events, steps = self.profile.key_averages(), sizes.profiled
        kernels = [e for e in events if "LaunchKernel" in e.key or e.key == "cudaGraphLaunch"]
        found["kernels"] = sum(e.count for e in kernels) / steps
        found["GPU ms"] = sum(e.self_device_time_total for e in events) / 1000 / steps
        if CUDA:
            found["waits"] = sum(self.waits.values()) / sizes.watched
            found["where"] = dict(self.waits.most_common(12))
        for name, of in (("longest", "self_device_time_total"), ("longest on the host", "self_cpu_time_total")):
            longest = sorted(events, key=lambda event, of=of: -getattr(event, of))[:14]
            found[name] = {e.key[:90]: f"{getattr(e, of) / 1000 / steps:.3f} ms, {e.count / steps:g}" for e in longest}
        return found


def settings_of(sizes: Sizes, folder: Path) -> dict:
    """Of every trainer alike."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": sizes.rows,
        "per_device_eval_batch_size": 2 * sizes.rows,
        "max_steps": sizes.steps,
        "bf16": True,
        "learning_rate": 1e-4,
        "logging_steps": 10**6,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": not CUDA,
    }


def with_retort(sizes, folder, size="base", kind="mixed", kind_of=DistillTrainer, live=False, brief=False, **more):
    """A run of retort by a kind of trainer; a brief one is timed only."""
    teacher, student = models_of(size, sizes, live=live)
    rows = rows_of(kind, sizes.rows * (sizes.steps + 1), sizes.vocabulary)
    tokens = float(np.mean(rows["length"][:])) * sizes.rows
    if kind_of is CKDTrainer:
        rows = rows.select(np.arange(max(sizes.queue, len(rows))) % len(rows))
        more |= {"queue_size": sizes.queue}
    else:
        more |= {"embedding_weight": 1.0, "embedding_loss": "mse"}
    cache = {} if live else {"teacher_cache": str(folder / f"cache-{size}-{kind}")}
    args = kind_of.arguments_class(**settings_of(sizes, folder / "run"), **cache, **more)
    tokenizer = tokenizer_of(sizes.vocabulary)
    trainer = kind_of(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
    if kind_of is CKDTrainer:
        keys = torch.nn.functional.normalize(torch.randn(sizes.queue, student.config.hidden_size), dim=-1)
        trainer.queue.push(keys.to(args.device), torch.arange(sizes.queue, device=args.device))
    found = Clock(sizes, brief=brief).run(trainer)
    found["TFLOP/s"] = flops_of(student, tokens) / (found["ms"] / 1000) / 1e12
    batches = "packed" if trainer.data_collator.student.packed else "padded"
    return found | {"batches": batches, "tokens/row": tokens / sizes.rows, "loader ms": loader(trainer)}


def loader(trainer, batches: int = 10) -> float:
    """Milliseconds that a batch costs the process which makes it."""
    rows, size = trainer._remove_unused_columns(trainer.train_dataset, "training"), trainer.args.train_batch_size
    start = time.perf_counter()
    for first in range(0, batches * size, size):
        trainer.data_collator(rows.__getitems__([at % len(rows) for at in range(first, first + size)]))
    return 1000 * (time.perf_counter() - start) / batches


def with_sentence_transformers(sizes: Sizes, folder: Path, size: str = "base", kind: str = "mixed") -> dict:
    """A run of sentence-transformers' trainer, with its defaults but for bf16."""
    import sentence_transformers as peer
    from sentence_transformers.sentence_transformer.losses import MSELoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    _, student = models_of(size, sizes, live=False)
    student.save_pretrained(folder / "student")
    tokenizer_of(sizes.vocabulary).save_pretrained(folder / "student")
    encoder = Transformer(str(folder / "student"))
    model = peer.SentenceTransformer(modules=[encoder, Pooling(student.config.hidden_size)])
    rows = rows_of(kind, sizes.rows * (sizes.steps + 1), sizes.vocabulary)
    vectors = np.random.default_rng(1).standard_normal((len(rows), student.config.hidden_size), dtype=np.float32)
    data = Dataset.from_dict({"sentence": texts_of(rows), "label": vectors})
    args = peer.SentenceTransformerTrainingArguments(**settings_of(sizes, folder / "run"))
    trainer = peer.SentenceTransformerTrainer(model, args, train_dataset=data, loss=MSELoss(model))
    return Clock(sizes, brief=True).run(trainer) | {"batches": "padded, " + student.config._attn_implementation}


class Report:
    """Prints each measurement as it is made, and keeps all of them in a file of JSON lines."""

    COLUMNS = ("ms", "GPU ms", "sentences/s", "TFLOP/s", "GiB", "kernels", "waits", "loader ms", "tokens/row")

    def __init__(self, sizes: Sizes, folder: Path, file: str | None):
        self.sizes, self.folder, self.file = sizes, folder, file
        print(" | ".join(["what", *self.COLUMNS, "batches"]), flush=True)

    def measure(self, name: str, run, **settings) -> dict:
        """Make one measurement; one that fails is told, and the others go on."""
        gc.collect()
        try:
            found = run(self.sizes, self.folder, **settings)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        cells = [f"{found[c]:,.4g}" if c in found else "-" for c in self.COLUMNS]
        print(" | ".join([name, *cells, found.get("batches", found.get("error", ""))]), flush=True)
        for detail in ("where", "longest", "longest on the host"):
            if found.get(detail) and name.startswith("target"):
                print(f"  {detail}:", *(f"    {value}  {key}" for key, value in found[detail].items()), sep="\n")
        if self.file:
            with open(self.file, "a") as lines:
                lines.write(json.dumps({"what": name} | found) + "\n")
        return found

    def judge(self, what: str, passes: bool) -> None:
        print(f"{'PASS' if passes else 'FAIL'}  {what}", flush=True)


def target(report: Report) -> None:
    """The figure that the project is held to."""
    found = report.measure("target", with_retort)
    more = report.measure("target, 4 workers, no dropout", with_retort, dataloader_num_workers=4, disable_dropout=True)
    best = max(run.get("sentences/s", 0) for run in (found, more))
    report.judge(f"{best:,.0f} sentences/s, 2,600 are asked", best >= 2600)
    report.judge(f"{found.get('waits', -1):.1f} waits a step, none is asked", found.get("waits") == 0)


def peers(report: Report) -> None:
    """Against sentence-transformers, in turns."""
    for kind, asked in (("mixed", 2.5), ("short", 1.5)):
        ratios = []
        for turn in (1, 2):
            theirs = report.measure(f"{kind}, sentence-transformers {turn}", with_sentence_transformers, kind=kind)
            ours = report.measure(f"{kind}, retort {turn}", with_retort, kind=kind, brief=True)
            ratios.append(theirs.get("ms", 0) / ours.get("ms", 1e9))  # 0 if one failed
        ratio = sum(ratios) / len(ratios)
        report.judge(f"{kind}: {ratio:.2f} times sentence-transformers, {asked} are asked", ratio >= asked)


def shapes(report: Report) -> None:
    """Back ends, lengths and widths."""
    for kind, size, backend in product(LENGTHS, HIDDEN, ("auto", "padded")):
        name = f"{size}, {kind}, {backend}"
        report.measure(name, with_retort, size=size, kind=kind, attention_backend=backend)


def ckd(report: Report) -> None:
    """A queue's price."""
    for kind in ("short", "mixed"):
        report.measure(f"{kind}, live teacher, embeddings", with_retort, kind=kind, live=True)
        report.measure(f"{kind}, live teacher, CKD", with_retort, kind=kind, kind_of=CKDTrainer, live=True)


def compiled(report: Report) -> None:
    """As `target`, compiled."""
    report.measure("target, compiled", with_retort, torch_compile=True)


PARTS = {"target": target, "peers": peers, "shapes": shapes, "ckd": ckd, "compile": compiled}


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["target", "peers", "shapes", "ckd"])
    parser.add_argument("--tiny", action="store_true", help="small models and few steps")
    parser.add_argument("--timed", type=int, help="steps that are timed")
    parser.add_argument("--json", help="file to which results are added, one a line")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    sizes = TINY if options.tiny else Sizes(**{"timed": options.timed} if options.timed else {})
    where = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"{where}, torch {torch.__version__}, {sizes}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(sizes, Path(folder), options.json)
        for part in options.parts:
            PARTS[part](report)


if __name__ == "__main__":
    main()
