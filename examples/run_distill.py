"""Distil a sentence encoder on your own text.

python examples/run_distill.py --teacher sentence-transformers/all-MiniLM-L6-v2 --layers 0 2 5 --embedding_weight 1 \
    --train_files corpus.txt pairs.tsv:question,answer --output_dir runs/mine --num_train_epochs 2

Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again, it goes on from its last
checkpoint. --push_to_hub True pushes the student.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from transformers.hf_argparser import HfArg

from retort import DistillTrainer, DistillTrainingArguments, shrink
from retort.commands import parse
from retort.data import read_texts
from retort.data.readers import read_sts
from retort.evaluation.report import require_drawing
from retort.recipes import train
from retort.recipes.sentences import how_to_use, layers_to_keep, load_model, report_sts, score_on_dev, tokenize_for


@dataclass
class ScriptArguments:
    """Teacher, student and text."""

    teacher: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    train_files: list[str] = HfArg(
        help="Text: .txt (one per line), .tsv, .csv, .jsonl, .parquet (also .gz), folders or names of datasets; with "
        "the columns that hold text where there are several: pairs.tsv:question,answer, or without a header :0,1."
    )
    exclude_files: list[str] = HfArg(default_factory=list, help="Texts to leave out, such as a test set's.")
    layers: list[int] | None = HfArg(
        default=None, help="How many of the teacher's layers to keep, or which, from 0: 0 2 5. Default: half."
    )
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    max_length: int = HfArg(default=128, help="Tokens to which texts are cut.")
    sts_dev: str | None = HfArg(
        default=None,
        help="TSV of sentence1, sentence2, score, or two that translate each other (en.tsv+de.tsv): with "
        "--eval_strategy, their Spearman correlation is reported as eval_sts, and may select the best model.",
    )
    sts_test: str | None = HfArg(default=None, help="Likewise; scored once, at the end. Never selected on.")


def main() -> None:
    """Read, shrink, distil, judge, save."""
    script, args = parse(ScriptArguments, DistillTrainingArguments, description=__doc__)
    if script.sts_test:
        require_drawing()
    # The first rank reads and tokenises; the others find the result in the cache of datasets.
    with args.main_process_first(desc="reading text"):
        teacher = load_model(script.teacher, script.max_length, args)
        excluded = read_texts(script.exclude_files) if script.exclude_files else ()
        rows = tokenize_for(teacher, read_texts(script.train_files, exclude=excluded))
        dev, test = (file and read_sts(file) for file in (script.sts_dev, script.sts_test))

    layers = layers_to_keep(script.layers, teacher.model)
    student = shrink(teacher.model, layers=layers, hidden_size=script.hidden_size)
    untrained = deepcopy(student) if test else None
    trainer = DistillTrainer(
        student,
        script.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev and tokenize_for(teacher, dev, text="sentence1"),
        processing_class=teacher.tokenizer,
        callbacks=[score_on_dev(teacher, dev, args.pooler)] if dev else [],
    )
    train(trainer)
    if trainer.is_world_process_zero():
        judged = report_sts(trainer, teacher, untrained, test, Path(script.sts_test).name) if test else {}
        trainer.create_model_card(data={", ".join(Path(name).name for name in script.train_files): len(rows)}, **judged)
    trainer.save_model()  # and pushes, under --push_to_hub True
    if trainer.is_world_process_zero():
        print(how_to_use(args.output_dir))
    trainer.end()


if __name__ == "__main__":
    main()
