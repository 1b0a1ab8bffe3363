r"""Teach a sentence encoder other languages by translations (Ding et al. 2022, arXiv:2209.05869).

python examples/run_mcl.py --output_dir runs/first    # German for distilbert-base-multilingual-cased
python examples/run_mcl.py --model FacebookAI/xlm-roberta-base --parallel_files en-de.tsv en-ru.tsv \
    --sts_test en.tsv+de.tsv --output_dir runs/multilingual

The teacher reads the sentences. The student learns its embeddings for sentences and translations, and its similarities
across languages. --mcl_weight 0 is the method of Reimers & Gurevych 2020 (arXiv:2004.09813).
All stages of the paper: retort distill multistage_xlmr.

If it is killed and started again, it resumes from its last checkpoint. --push_to_hub True pushes the student.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import (
    MCLTrainer,
    MCLTrainingArguments,
    ScriptParser,
    SentenceEncoder,
    last_complete_checkpoint,
    read_parallel,
    read_sts,
    score_sts,
    tokenize_groups,
)


@dataclass
class ScriptArguments:
    """Teacher, student and text."""

    teacher: str = HfArg(default="sentence-transformers/all-MiniLM-L6-v2", help="Hub id or folder.")
    model: str = HfArg(default="distilbert/distilbert-base-multilingual-cased", help="The student before training.")
    parallel_files: list[str] = HfArg(
        default_factory=lambda: ["sentence-transformers/parallel-sentences-tatoeba:en-de:english,non_english"],
        help="Files with a sentence, a tab and its translation per line; or a table or Hub dataset with the names of "
        "two columns, opus.parquet:en,de; or two files with aligned rows, en.txt+de.txt.",
    )
    dev_files: list[str] = HfArg(default_factory=list, help="Such files for --eval_strategy, left out of training.")
    max_length: int = HfArg(default=128, help="Texts are truncated to this many tokens.")
    sts_test: str | None = HfArg(default=None, help="STS table, or two with aligned rows: en.tsv+de.tsv.")


def main() -> None:
    """Read, distil, save, score."""
    parser = ScriptParser((ScriptArguments, MCLTrainingArguments), description=__doc__, models=["teacher", "model"])
    script, args = parser.parse_args_into_dataclasses()

    student = SentenceEncoder.from_pretrained(script.model, pooler=args.pooler, max_length=script.max_length)
    pooler = args.teacher_pooler or args.pooler
    teacher = SentenceEncoder.from_pretrained(script.teacher, pooler=pooler, max_length=script.max_length)
    tokens = {"teacher_tokenizer": teacher.tokenizer, "teacher_prompt": teacher.modules.prompt()}
    test = script.sts_test and read_sts(script.sts_test)
    before = score_sts(student, test) if test and args.process_index == 0 else {}
    with args.main_process_first(desc="reading text"):  # other ranks find the result in the cache of datasets
        unseen = [*test["sentence1"], *test["sentence2"]] if test else []
        dev = read_parallel(script.dev_files, exclude=unseen) if script.dev_files else None
        unseen += [*dev["source"], *dev["target"]] if dev else []
        translations = read_parallel(script.parallel_files, exclude=unseen)
        rows, dev_rows = (
            pairs and tokenize_groups(pairs, student.tokenizer, max_length=student.max_length, **tokens)
            for pairs in (translations, dev)
        )

    trainer = MCLTrainer(
        student,
        script.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev_rows,
        processing_class=student.tokenizer,
        teacher_processing_class=teacher.tokenizer,
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    trainer.save_model()  # and pushes, under --push_to_hub True
    if test and trainer.is_world_process_zero():
        after = score_sts(SentenceEncoder.from_pretrained(args.output_dir), test)
        print(f"STS, Spearman's correlation: {before['sts']:.4f} before, {after['sts']:.4f} after")
    trainer.end()


if __name__ == "__main__":
    main()
