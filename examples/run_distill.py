r"""Distil a sentence encoder on your own text.

python examples/run_distill.py --output_dir runs/first    # all-MiniLM-L6-v2, on the sentences of STS-B
python examples/run_distill.py --teacher BAAI/bge-small-en-v1.5 --layers 6 --sts_test sts.tsv \
    --train_files corpus.txt pairs.tsv:question,answer --output_dir runs/mine

If it is killed and started again, it resumes from its last checkpoint. --push_to_hub True pushes the student.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import (
    DistillTrainer,
    DistillTrainingArguments,
    ScoreOnDev,
    ScriptParser,
    SentenceEncoder,
    last_complete_checkpoint,
    read_sts,
    read_texts,
    score_sts,
    shrink,
    tokenize,
)


@dataclass
class ScriptArguments:
    """Teacher, student and text."""

    teacher: str = HfArg(default="sentence-transformers/all-MiniLM-L6-v2", help="Hub id or folder.")
    layers: int = HfArg(default=3, help="Number of the teacher's layers to keep.")
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    train_files: list[str] = HfArg(
        default_factory=lambda: ["sentence-transformers/stsb:sentence1,sentence2"],
        help="Texts, one per line (.txt); or tables, folders or Hub datasets with the names of the text columns: "
        "pairs.tsv:question,answer, or without a header pairs.tsv:0,1.",
    )
    exclude_files: list[str] = HfArg(default_factory=list, help="Texts to leave out, besides those of STS.")
    max_length: int = HfArg(default=128, help="Texts are truncated to this many tokens.")
    sts_dev: str | None = HfArg(default=None, help="STS table (.tsv, ...) for eval_sts, with --eval_strategy.")
    sts_test: str | None = HfArg(default=None, help="STS table (.tsv, ...), scored once, at the end.")


def main() -> None:
    """Read, shrink, distil, save, score."""
    parser = ScriptParser((ScriptArguments, DistillTrainingArguments), description=__doc__, models=["teacher"])
    parser.set_defaults(embedding_weight=1.0, learning_rate=3e-4)
    script, args = parser.parse_args_into_dataclasses()
    if script.sts_dev and args.eval_strategy == "no" and not args.eval_on_start:
        parser.error("--sts_dev is scored by --eval_strategy. Set it, such as epoch.")

    teacher = SentenceEncoder.from_pretrained(script.teacher, pooler=args.pooler, max_length=script.max_length)
    tokens = {"max_length": teacher.max_length, "teacher_prompt": teacher.modules.prompt()}
    dev, test = (file and read_sts(file) for file in (script.sts_dev, script.sts_test))
    with args.main_process_first(desc="reading text"):  # other ranks find the result in the cache of datasets
        excluded = read_texts(script.exclude_files)["text"][:] if script.exclude_files else []
        excluded += [text for pairs in (dev, test) if pairs for text in (*pairs["sentence1"], *pairs["sentence2"])]
        rows = tokenize(read_texts(script.train_files, exclude=excluded), teacher.tokenizer, **tokens)
        dev_rows = dev and tokenize(dev, teacher.tokenizer, text="sentence1", **tokens)

    student = teacher.with_model(shrink(teacher.model, layers=script.layers, hidden_size=script.hidden_size))
    trainer = DistillTrainer(
        student,
        script.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev_rows,
        processing_class=teacher.tokenizer,
        callbacks=[ScoreOnDev(lambda model: score_sts(teacher.with_model(model), dev))] if dev else [],
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    trainer.save_model()  # and pushes, under --push_to_hub True
    if test and trainer.is_world_process_zero():
        models = (teacher, SentenceEncoder.from_pretrained(args.output_dir))
        theirs, ours = (score_sts(model, test)["sts"] for model in models)
        results = f"STS, Spearman's correlation: teacher {theirs:.4f}, student {ours:.4f}"
        trainer.create_model_card(results=results)
        print(results)
    if args.push_to_hub:
        trainer.push_to_hub()  # once more, with the score on its card
    trainer.end()


if __name__ == "__main__":
    main()
