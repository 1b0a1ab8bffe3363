r"""Fine-tune a sentence encoder contrastively: the second stage of DistilCSE, or SimCSE by itself.

python examples/run_contrastive.py --output_dir runs/first    # distilbert-base-uncased, on questions of Quora
python examples/run_contrastive.py --model runs/ckd --train_files nli_for_simcse.csv \
    --per_device_train_batch_size 128 --output_dir runs/finetuned

Rows are pairs (anchor, positive), triplets (and a hard negative), or single texts (.txt, one per line), whose positive
is the same text under another dropout. Negatives are from the whole step: all micro-batches and all ranks.

If it is killed and started again, it resumes from its last checkpoint. --push_to_hub True pushes the model.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import (
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    ScoreOnDev,
    ScriptParser,
    SentenceEncoder,
    last_complete_checkpoint,
    read_groups,
    read_sts,
    score_sts,
    tokenize_groups,
)


@dataclass
class ScriptArguments:
    """Model and text."""

    model: str = HfArg(default="distilbert/distilbert-base-uncased", help="Hub id or folder.")
    train_files: list[str] = HfArg(
        default_factory=lambda: ["sentence-transformers/quora-duplicates:triplet"],
        help="Tables or datasets with two columns (anchor, positive) or three (and a hard negative), or .txt.",
    )
    dev_files: list[str] = HfArg(default_factory=list, help="Files for the loss of --eval_strategy.")
    max_length: int = HfArg(default=128, help="Texts are truncated to this many tokens.")
    sts_dev: str | None = HfArg(default=None, help="STS table (.tsv, ...) for eval_sts, with --dev_files.")
    sts_test: str | None = HfArg(default=None, help="STS table (.tsv, ...), scored once, at the end.")


def main() -> None:
    """Read, fine-tune, save, score."""
    parser = ScriptParser((ScriptArguments, ContrastiveTrainingArguments), description=__doc__, models=["model"])
    parser.set_defaults(learning_rate=5e-5)
    script, args = parser.parse_args_into_dataclasses()
    if script.sts_dev and (args.eval_strategy == "no" or not script.dev_files):
        parser.error("--sts_dev is scored with --dev_files, by --eval_strategy. Set both.")

    model = SentenceEncoder.from_pretrained(script.model, pooler=args.pooler, max_length=script.max_length)
    dev, test = (file and read_sts(file) for file in (script.sts_dev, script.sts_test))
    before = score_sts(model, test) if test and args.process_index == 0 else {}
    unseen = [text for pairs in (dev, test) if pairs for text in (*pairs["sentence1"], *pairs["sentence2"])]
    with args.main_process_first(desc="reading text"):  # other ranks find the result in the cache of datasets
        rows, dev_rows = (
            files and tokenize_groups(read_groups(files, exclude=unseen), model.tokenizer, max_length=model.max_length)
            for files in (script.train_files, script.dev_files)
        )

    trainer = ContrastiveTrainer(
        model,
        args=args,
        train_dataset=rows,
        eval_dataset=dev_rows or None,
        processing_class=model.tokenizer,
        callbacks=[ScoreOnDev(lambda student: score_sts(model.with_model(student), dev))] if dev else [],
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    trainer.save_model()  # and pushes, under --push_to_hub True
    if test and trainer.is_world_process_zero():
        after = score_sts(SentenceEncoder.from_pretrained(args.output_dir), test)
        print(f"STS, Spearman's correlation: {before['sts']:.4f} before, {after['sts']:.4f} after")
    trainer.end()


if __name__ == "__main__":
    main()
