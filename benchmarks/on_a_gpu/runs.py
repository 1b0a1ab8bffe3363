"""Timed runs of retort's trainers and of sentence-transformers' trainer."""

import time
from pathlib import Path

import numpy as np
import torch
from clock import Clock
from datasets import Dataset
from transformers import PrinterCallback, Trainer
from workload import CUDA, Sizes, flops_of, models_of, rows_of, texts_of, tokenizer_of

from retort import CKDTrainer, DistillTrainer


def settings_of(sizes: Sizes, folder: Path) -> dict:
    """Arguments of all trainers."""
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


def trainer_of(
    sizes: Sizes, folder: Path, size="base", kind="mixed", kind_of=DistillTrainer, live=False, **more
) -> tuple[Trainer, float]:
    """A trainer, and the mean number of tokens in its batches.

    Args:
        sizes: numbers of rows and steps.
        folder: folder for caches and outputs.
        size: size of the models, a key of `HIDDEN`.
        kind: lengths of the rows, a key of `LENGTHS`.
        kind_of: the trainer's class.
        live: whether the teacher is live or cached.
        more: further arguments of the trainer.
    """
    teacher, student = models_of(size, sizes, live=live)
    rows = rows_of(kind, sizes.rows * (sizes.steps + 1), sizes.vocabulary)
    tokens = float(np.mean(rows["length"][:])) * sizes.rows
    if kind_of is CKDTrainer:
        rows = rows.select(np.arange(max(sizes.queue, len(rows))) % len(rows))
        more |= {"queue_size": sizes.queue}
    else:
        more |= {"embedding_weight": 1.0, "embedding_loss": "mse"}
    if not live:
        more["teacher_cache"] = str(folder / f"cache-{size}-{kind}")
    args = kind_of.arguments_class(**settings_of(sizes, folder / "run") | more)
    trainer = kind_of(student, teacher, args, train_dataset=rows, processing_class=tokenizer_of(sizes.vocabulary))
    trainer.remove_callback(PrinterCallback)
    if kind_of is CKDTrainer:
        keys = torch.nn.functional.normalize(torch.randn(sizes.queue, student.config.hidden_size), dim=-1)
        trainer.queue.push(keys.to(args.device), torch.arange(sizes.queue, device=args.device))
    return trainer, tokens


def with_retort(sizes: Sizes, folder: Path, *, brief: bool = False, **settings) -> dict:
    """Time a run of retort (see `trainer_of`). Unless it is brief, profile it and count synchronisations, too."""
    trainer, tokens = trainer_of(sizes, folder, **settings)
    found = Clock(sizes, brief=brief).run(trainer)
    found["TFLOP/s"] = flops_of(trainer.student, tokens) / (found["ms"] / 1000) / 1e12
    batches = "packed" if trainer.data_collator.student.packed else "padded"
    return found | {"batches": batches, "tokens/row": tokens / sizes.rows, "loader ms": loader(trainer)}


def loader(trainer, batches: int = 10) -> float:
    """Time to make a batch, in milliseconds."""
    rows, size = trainer._remove_unused_columns(trainer.train_dataset, "training"), trainer.args.train_batch_size
    start = time.perf_counter()
    for first in range(0, batches * size, size):
        trainer.data_collator(rows.__getitems__([at % len(rows) for at in range(first, first + size)]))
    return 1000 * (time.perf_counter() - start) / batches


def with_sentence_transformers(sizes: Sizes, folder: Path, size: str = "base", kind: str = "mixed") -> dict:
    """Time a run of sentence-transformers' trainer in bf16, with its defaults otherwise."""
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
    trainer.remove_callback(PrinterCallback)
    return Clock(sizes, brief=True).run(trainer) | {"batches": "padded, " + student.config._attn_implementation}
