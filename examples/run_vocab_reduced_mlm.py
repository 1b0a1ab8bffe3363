r"""Distil a masked language model into one with a smaller vocabulary (Kolesnikova et al. 2022, arXiv:2205.02340).

python examples/run_vocab_reduced_mlm.py --output_dir runs/first    # multilingual DistilBERT, on English Wikipedia
python examples/run_vocab_reduced_mlm.py --teacher google-bert/bert-base-multilingual-cased --vocab_size 16000 \
    --layer_init average --hidden_size 264 --train_files ru.txt en.txt --dev_files dev.txt --output_dir runs/tiny

The student keeps the teacher's tokens that the text needs most, or uses another tokenizer, such as one trained by
`retort vocabulary`. With --dev_files, the bits per masked character are printed at the end.
If it is killed and started again, it resumes from its last checkpoint. --push_to_hub True pushes the student.
"""

from dataclasses import dataclass
from typing import Literal

from transformers import AutoTokenizer
from transformers.hf_argparser import HfArg

from retort import (
    ScriptParser,
    VocabReducedMLMTrainer,
    VocabReducedMLMTrainingArguments,
    last_complete_checkpoint,
    read_texts,
    shrink,
    tokenize_spans,
    trim_tokenizer,
)


@dataclass
class ScriptArguments:
    """Teacher, student and text."""

    teacher: str = HfArg(default="distilbert/distilbert-base-multilingual-cased", help="Hub id or folder.")
    vocab_size: int = HfArg(default=16000, help="Maximum number of the teacher's tokens to keep.")
    tokenizer: str | None = HfArg(default=None, help="Hub id or folder of another tokenizer.")
    layers: int = HfArg(default=3, help="Number of the student's layers.")
    layer_init: Literal["select", "average"] = HfArg(default="select", help="Layers, or means of neighbours.")
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    train_files: list[str] = HfArg(
        default_factory=lambda: ["Salesforce/wikitext:wikitext-2-raw-v1:text"], help="Texts, as in run_distill.py."
    )
    dev_files: list[str] = HfArg(default_factory=list, help="Texts for the evaluation, left out of training.")


def main() -> None:
    """Read, shrink, distil, save, score."""
    parser = ScriptParser((ScriptArguments, VocabReducedMLMTrainingArguments), description=__doc__, models=["teacher"])
    parser.set_defaults(learning_rate=5e-4)
    script, args = parser.parse_args_into_dataclasses()

    theirs = AutoTokenizer.from_pretrained(script.teacher)
    with args.main_process_first(desc="reading text"):  # other ranks find the result in the cache of datasets
        dev = read_texts(script.dev_files) if script.dev_files else None
        texts = read_texts(script.train_files, exclude=dev or ())
        named = script.tokenizer and AutoTokenizer.from_pretrained(script.tokenizer)
        ours = named or trim_tokenizer(theirs, texts, vocab_size=script.vocab_size)
        rows, dev_rows = (found and tokenize_spans(found, ours, teacher_tokenizer=theirs) for found in (texts, dev))

    sizes = {"layers": script.layers, "layer_init": script.layer_init, "hidden_size": script.hidden_size}
    student = shrink(script.teacher, **sizes, tokenizer=ours, teacher_tokenizer=theirs)
    trainer = VocabReducedMLMTrainer(
        student,
        script.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev_rows,
        processing_class=ours,
        teacher_processing_class=theirs,
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    if dev_rows:
        trainer.log_metrics("eval", trainer.evaluate())
    trainer.save_model()  # and pushes, under --push_to_hub True
    trainer.end()


if __name__ == "__main__":
    main()
