"""Fine-tune a sentence encoder contrastively: the second stage of DistilCSE, or SimCSE by itself.

python examples/run_contrastive.py --model runs/ckd --train_files nli_for_simcse.csv --output_dir runs/finetuned \
    --per_device_train_batch_size 128 --learning_rate 5e-5 --num_train_epochs 5

Files hold an anchor and its positive, or these and a hard negative (TSV, or CSV; with a header or without), or a text
per line (.txt), whose positive is itself under another dropout. Negatives are those of the whole step: of all
micro-batches and of all ranks. Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again,
it goes on from its last checkpoint. --push_to_hub True pushes the model.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers.hf_argparser import HfArg

from retort import ContrastiveTrainer, ContrastiveTrainingArguments
from retort.commands import parse
from retort.data import read_groups, tokenize_groups
from retort.data.readers import read_sts
from retort.evaluation.sentences import sts_of_each
from retort.recipes import train
from retort.recipes.sentences import how_to_use, load_model, score_on_dev


@dataclass
class ScriptArguments:
    """Model and text."""

    model: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    train_files: list[str] = HfArg(
        help=".tsv or .csv of two columns (anchor, positive) or three (and a hard negative), or .txt."
    )
    max_length: int = HfArg(default=64, help="Tokens to which texts are cut.")
    sts_dev: str | None = HfArg(
        default=None,
        help="TSV of sentence1, sentence2, score, or two that translate each other (en.tsv+de.tsv): with "
        "--eval_strategy, their Spearman correlation is reported as eval_sts, and may select the best model.",
    )
    sts_test: str | None = HfArg(default=None, help="Likewise; scored once, at the end. Never selected on.")


def main() -> None:
    """Read, fine-tune, judge, save."""
    script, args = parse(ScriptArguments, ContrastiveTrainingArguments, description=__doc__)
    # The first rank reads and tokenises; the others find the result in the cache of datasets.
    with args.main_process_first(desc="reading text"):
        start = load_model(script.model, script.max_length, args)
        groups = tokenize_groups(read_groups(script.train_files), start.tokenizer, max_length=script.max_length)
        dev, test = (file and read_sts(file) for file in (script.sts_dev, script.sts_test))
        close = dev and tokenize_groups(close_pairs(dev), start.tokenizer, max_length=script.max_length)
    before = sts_of_each(start, {"sts": test})["sts"] if test and args.process_index == 0 else None

    trainer = ContrastiveTrainer(
        start.model,
        args=args,
        train_dataset=groups,
        eval_dataset=close,
        processing_class=start.tokenizer,
        callbacks=[score_on_dev(start, dev, args.pooler)] if dev else [],
    )
    train(trainer)
    results = ""
    if test and trainer.is_world_process_zero():
        after = sts_of_each(start.with_model(trainer.student, args.pooler), {"sts": test})["sts"]
        name = Path(script.sts_test).name
        results = f"| STS Spearman | before | after |\n|:---|---:|---:|\n| {name} | {before:.4f} | {after:.4f} |"
        print(f"\n{results}\n")
    read = {", ".join(Path(name).name for name in script.train_files): len(groups)}
    trainer.create_model_card(data=read, results=results)
    trainer.save_model()  # and pushes, under --push_to_hub True
    if trainer.is_world_process_zero():
        print(how_to_use(args.output_dir))
    trainer.end()


def close_pairs(pairs: Dataset) -> Dataset:
    """The fifth of scored pairs that people found most alike, as groups: development data of the loss."""
    least = np.quantile(pairs["score"], 0.8)
    chosen = pairs.filter(lambda score: score >= least, input_columns="score")
    return chosen.select_columns(["sentence1", "sentence2"]).rename_columns(
        {"sentence1": "anchor", "sentence2": "positive"}
    )


if __name__ == "__main__":
    main()
