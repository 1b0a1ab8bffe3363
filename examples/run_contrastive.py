"""Fine-tune a sentence encoder contrastively: the second stage of DistilCSE, or SimCSE by itself.

python examples/run_contrastive.py --model runs/ckd --train_files nli_for_simcse.csv --output_dir runs/finetuned \
    --per_device_train_batch_size 128 --learning_rate 5e-5 --num_train_epochs 5

Files hold an anchor and its positive, or these and a hard negative (TSV, or CSV; with a header or without), or a text
per line (.txt), whose positive is itself under another dropout. Negatives are those of the whole step: of all
micro-batches and of all ranks. Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again,
it goes on from its last checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers.hf_argparser import HfArg

from retort import ContrastiveTrainer, ContrastiveTrainingArguments
from retort.commands import parse
from retort.data import read_groups, tokenize_groups
from retort.evaluation.report import aligned
from retort.evaluation.sentences import sts_of_each
from retort.recipes import train_and_save
from retort.recipes.sentences import STSArguments, how_to_use, load_model, score_on_dev


@dataclass
class EncoderArguments:
    """Model and text."""

    model: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    train_files: list[str] = HfArg(
        help=".tsv or .csv of two columns (anchor, positive) or three (and a hard negative), or .txt."
    )
    max_length: int = HfArg(default=64, help="Tokens to which texts are cut.")


def main() -> None:
    """Parse, fine-tune, judge, save."""
    options, measure, args = parse(EncoderArguments, STSArguments, ContrastiveTrainingArguments, description=__doc__)
    with args.main_process_first(desc="reading text"):
        start = load_model(options.model, options.max_length, args)
        groups = tokenize_groups(read_groups(options.train_files), start.tokenizer, max_length=options.max_length)
        # Read now: a mistake in a file should not show after hours of training.
        dev, test = measure.read()
        close = dev and tokenize_groups(close_pairs(dev), start.tokenizer, max_length=options.max_length)
    before = sts_of_each(start, {"test": test})["test"] if test and args.process_index == 0 else None
    trainer = ContrastiveTrainer(
        start.model,
        args=args,
        train_dataset=groups,
        eval_dataset=close,
        processing_class=start.tokenizer,
        callbacks=[score_on_dev(start, dev, args.pooler)] if dev else [],
    )

    def judge() -> None:
        if not trainer.is_world_process_zero() or not test:
            return
        after = sts_of_each(start.with_model(trainer.student, args.pooler), {"test": test})["test"]
        scores = [Path(measure.sts_test).name, f"{before:.4f}", f"{after:.4f}"]
        print("\n" + "\n".join(aligned([["STS Spearman", "before", "after"], scores], gap=3)))
        trainer.create_model_card(
            results=f"| STS Spearman | before | after |\n|:---|---:|---:|\n| {' | '.join(scores)} |",
            data={", ".join(Path(name).name for name in options.train_files): len(trainer.train_dataset)},
        )

    train_and_save(trainer, judge, lambda: how_to_use(args.output_dir))


def close_pairs(pairs: Dataset) -> Dataset:
    """The fifth of scored pairs that people found most alike, as groups: development data of the loss."""
    least = np.quantile(pairs["score"], 0.8)
    chosen = pairs.filter(lambda score: score >= least, input_columns="score")
    return chosen.select_columns(["sentence1", "sentence2"]).rename_columns(
        {"sentence1": "anchor", "sentence2": "positive"}
    )


if __name__ == "__main__":
    main()
