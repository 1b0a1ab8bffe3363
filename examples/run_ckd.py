r"""Distil a sentence encoder contrastively, with a queue of the teacher's embeddings (DistilCSE, arXiv:2112.05638).

python examples/run_ckd.py --output_dir runs/first    # all-MiniLM-L6-v2, on the sentences of STS-B
python examples/run_ckd.py --teacher princeton-nlp/sup-simcse-roberta-large --pooler cls --layers 6 \
    --train_files corpus.txt --queue_size 65536 --contrastive_temperature 0.05 --output_dir runs/ckd

InfoNCE between student and teacher embeddings; negatives are from the whole step and from a queue of past steps.

If it is killed and started again, it resumes from its last checkpoint. --push_to_hub True pushes the student.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
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
    sts_test: str | None = HfArg(default=None, help="STS table (.tsv, ...), scored once, at the end.")


def main() -> None:
    """Read, shrink, distil, save, score."""
    parser = ScriptParser((ScriptArguments, CKDTrainingArguments), description=__doc__, models=["teacher"])
    parser.set_defaults(learning_rate=3e-4)
    script, args = parser.parse_args_into_dataclasses()

    teacher = SentenceEncoder.from_pretrained(script.teacher, pooler=args.pooler, max_length=script.max_length)
    tokens = {"max_length": teacher.max_length, "teacher_prompt": teacher.modules.prompt()}
    test = script.sts_test and read_sts(script.sts_test)
    with args.main_process_first(desc="reading text"):  # other ranks find the result in the cache of datasets
        excluded = read_texts(script.exclude_files)["text"][:] if script.exclude_files else []
        excluded += [*test["sentence1"], *test["sentence2"]] if test else []
        rows = tokenize(read_texts(script.train_files, exclude=excluded), teacher.tokenizer, **tokens)

    student = teacher.with_model(shrink(teacher.model, layers=script.layers, hidden_size=script.hidden_size))
    trainer = CKDTrainer(student, script.teacher, args, train_dataset=rows, processing_class=teacher.tokenizer)
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
