"""Teach a sentence encoder other languages by translations (Ding et al. 2022, arXiv:2209.05869).

python examples/run_mcl.py --teacher sentence-transformers/all-MiniLM-L6-v2 --model xlm-roberta-base \
    --parallel_files en-de.tsv en-ru.tsv --output_dir runs/multilingual --sts_test en-de=en.tsv+de.tsv

The teacher reads the sentences; the student learns its embeddings for sentences and translations, and its similarities
of them with one another across languages. --mcl_weight 0 is the method of Reimers & Gurevych 2020 (arXiv:2004.09813).

Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again, it goes on from its last
checkpoint. --push_to_hub True pushes the student. All stages of the paper: retort distill multistage_xlmr.
"""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from retort import MCLTrainer, MCLTrainingArguments
from retort.commands import named_file, parse
from retort.data import read_parallel, tokenize_groups
from retort.data.readers import read_sts
from retort.evaluation.sentences import load_sentence_teacher, sts_of_each
from retort.recipes import train
from retort.recipes.sentences import how_to_use


@dataclass
class ScriptArguments:
    """Teacher, student and text."""

    teacher: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    model: str = HfArg(help="The student before training, likewise: an encoder whose tokenizer knows the languages.")
    parallel_files: list[str] = HfArg(
        help="A sentence, a tab and its translation per line (also .gz); or two files whose rows translate each other, "
        "as in en.tsv:text+de.tsv:text."
    )
    dev_files: list[str] = HfArg(
        default_factory=list, help="Likewise, for --eval_strategy: left out of --parallel_files."
    )
    alpha: float = HfArg(default=1.0, help="Files are seen in proportion to their size to this power; 0: all alike.")
    max_length: int = HfArg(default=128, help="Tokens to which texts are cut.")
    sts_test: list[str] = HfArg(
        default_factory=list,
        help="[name=]TSV of sentence1, sentence2, score, or two that translate each other (en.tsv+de.tsv): scored "
        "before and after training.",
    )


def main() -> None:
    """Read, distil, judge, save."""
    script, args = parse(ScriptArguments, MCLTrainingArguments, description=__doc__)
    # The first rank reads and tokenises; the others find the result in the cache of datasets.
    with args.main_process_first(desc="reading text"):
        tests = {name: read_sts(file) for name, file in map(named_file, script.sts_test)}
        unseen = [text for pairs in tests.values() for side in ("sentence1", "sentence2") for text in pairs[side]]
        dev = read_parallel(script.dev_files, exclude=unseen) if script.dev_files else None
        unseen += [text for side in ("source", "target") for text in dev[side]] if dev else []
        translations = read_parallel(script.parallel_files, exclude=unseen, alpha=script.alpha)
        teacher = load_sentence_teacher(script.teacher, script.max_length, args.teacher_pooler)
        student = load_sentence_teacher(script.model, script.max_length, otherwise=args.pooler)
        tokens = {"teacher_tokenizer": teacher.tokenizer, "teacher_prompt": teacher.modules.prompt()}
        rows, dev_rows = (
            pairs and tokenize_groups(pairs, student.tokenizer, max_length=script.max_length, **tokens)
            for pairs in (translations, dev)
        )
    student.model.float()  # in which it is trained, whatever it was saved in
    before = sts_of_each(student, tests) if tests and args.process_index == 0 else {}

    trainer = MCLTrainer(
        student,
        script.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev_rows,
        processing_class=student.tokenizer,
        teacher_processing_class=teacher.tokenizer,
    )
    train(trainer)
    trainer.save_model()  # and pushes, under --push_to_hub True
    if trainer.is_world_process_zero():
        after = sts_of_each(load_sentence_teacher(args.output_dir, script.max_length), tests) if tests else {}
        for name in tests:
            print(f"STS {name}: Spearman {before[name]:.4f} before, {after[name]:.4f} after")
        print(how_to_use(args.output_dir))
    trainer.end()


if __name__ == "__main__":
    main()
