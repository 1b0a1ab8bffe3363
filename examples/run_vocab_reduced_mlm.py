"""Distil a masked language model into one with another, smaller vocabulary; or train one on text alone.

python examples/run_vocab_reduced_mlm.py --teacher bert-base-multilingual-cased --vocab_size 16000 \
    --layers 3 --layer_init average --hidden_size 264 --intermediate_size 792 \
    --train_files ru.txt en.txt --dev_files dev.txt --output_dir runs/tiny
python examples/run_vocab_reduced_mlm.py --tokenizer bert-base-multilingual-cased --layers 6 --hidden_size 256 \
    --train_files ru.txt en.txt --output_dir runs/teacher --learning_rate 5e-4

After Kolesnikova et al. 2022 (arXiv:2205.02340). The student's tokenizer is trained on the text (--vocab_size), the
teacher's own without the tokens that the text doesn't need (--vocab_size with --trim), or any other (--tokenizer). With
--dev_files, the bits that hidden tokens cost per character are told at the end: of one run with another's student,
whatever their vocabularies, if both hide --whole_words.

Runs as it is, or under torchrun or deepspeed (ZeRO-1 and 2) on several GPUs. Killed and started again, it goes on from
its last checkpoint.
"""

from dataclasses import dataclass
from typing import Literal

from datasets import Dataset
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.hf_argparser import HfArg

from retort import VocabReducedMLMTrainer, VocabReducedMLMTrainingArguments, shrink
from retort.commands import parse
from retort.data import count_tokens, read_texts, tokenize_spans
from retort.evaluation import Footprint
from retort.evaluation.report import aligned
from retort.recipes import NewTokenizer, number_or_layers, student_tokenizer, train_and_save
from retort.recipes.masked import how_to_use, new_bert


@dataclass
class VocabularyArguments:
    """Teacher, text, and the student with its vocabulary."""

    train_files: list[str] = HfArg(
        help="Text, named as in run_distill.py: .txt (one per line), pairs.tsv:question,answer, …"
    )
    dev_files: list[str] = HfArg(default_factory=list, help="Text to be judged by, which is left out of --train_files.")
    teacher: str | None = HfArg(
        default=None, help="Hub id or folder of a masked language model. Default: none; a new BERT is trained."
    )
    tokenizer: str | None = HfArg(default=None, help="The student's: hub id or folder.")
    vocab_size: int | None = HfArg(default=None, help="Tokens at most, of a tokenizer that is made for the text.")
    trim: bool = HfArg(default=False, help="Make it of the teacher's, by leaving out tokens, rather than anew.")
    weigh_pieces: bool = HfArg(
        default=False, help="Start a token as the mean of the teacher's pieces for it by their frequency, not as plain."
    )
    layers: list[int] | None = HfArg(
        default=None, help="How many layers, or which of the teacher's, from 0. Default: all; 6 if new."
    )
    layer_init: Literal["select", "average"] = HfArg(
        default="select", help="Take single layers of the teacher's, or the mean of neighbours."
    )
    hidden_size: int | None = HfArg(default=None, help="Default: the teacher's; 256 of a new model.")
    intermediate_size: int | None = HfArg(
        default=None, help="Default: the teacher's; of a new model four times the hidden size."
    )
    num_attention_heads: int | None = HfArg(
        default=None, help="Default: as many as keep the size of heads; of a new model, heads of 64."
    )
    max_length: int = HfArg(default=128, help="Tokens of a row; longer texts make several.")

    def __post_init__(self):
        if (self.tokenizer is None) == (self.vocab_size is None):
            raise SystemExit("Give the student's tokenizer: --tokenizer, or --vocab_size for one made for the text.")
        if self.teacher is None and self.tokenizer is None:
            raise SystemExit("Without --teacher there is no tokenizer to resemble: give --tokenizer.")
        if self.trim and self.tokenizer:
            raise SystemExit("--trim makes a tokenizer of the teacher's, but --tokenizer names one: give one.")
        of_teacher = {
            "--weigh_pieces": self.weigh_pieces,
            "--layer_init": self.layer_init != "select",
            "several --layers": self.layers and len(self.layers) > 1,
        }
        if self.teacher is None and (given := [flag for flag, is_given in of_teacher.items() if is_given]):
            raise SystemExit(f"{', '.join(given)}: for students made of a --teacher, but there is none.")

    @property
    def student_tokenizer(self) -> str | NewTokenizer:
        """As a recipe says it."""
        size = self.vocab_size
        return self.tokenizer or (NewTokenizer(trim_to=size) if self.trim else NewTokenizer(vocab_size=size))


def main() -> None:
    """Parse, distil, tell, save."""
    options, args = parse(VocabularyArguments, VocabReducedMLMTrainingArguments, description=__doc__)
    if options.teacher is None:
        args.mlm_weight, args.vocabulary_weight = 1.0, 0.0
    with args.main_process_first(desc="reading text"):
        dev = read_texts(options.dev_files) if options.dev_files else None
        texts = read_texts(options.train_files, exclude=dev if dev is not None else ())
        theirs = AutoTokenizer.from_pretrained(options.teacher) if options.teacher else None
        ours = student_tokenizer(options.student_tokenizer, theirs, lambda: texts, args.output_dir)
        rows, dev_rows = (
            found and tokenize_spans(found, ours, teacher_tokenizer=theirs, max_length=options.max_length)
            for found in (texts, dev)
        )
    set_seed(args.seed)  # the weights of a new model
    trainer = VocabReducedMLMTrainer(
        untrained_student(options, texts, ours, theirs),
        options.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev_rows,
        processing_class=ours,
        teacher_processing_class=theirs,
    )
    train_and_save(trainer, lambda: judge(trainer), lambda: how_to_use(args.output_dir, ours))


def untrained_student(
    options: VocabularyArguments,
    texts: Dataset,
    ours: PreTrainedTokenizerBase,
    theirs: PreTrainedTokenizerBase | None,
) -> PreTrainedModel:
    """The student before training, made of its teacher; without one, a BERT with random weights."""
    sizes = {name: getattr(options, name) for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
    sizes["layers"] = number_or_layers(options.layers)
    sizes = {name: value for name, value in sizes.items() if value is not None}
    if theirs is None:
        return new_bert(ours, **sizes)
    return shrink(
        AutoModelForMaskedLM.from_pretrained(options.teacher),
        layer_init=options.layer_init,
        tokenizer=ours,
        teacher_tokenizer=theirs,
        piece_counts=count_tokens(theirs, texts) if options.weigh_pieces else None,
        **sizes,
    )


def judge(trainer: VocabReducedMLMTrainer) -> None:
    """Print the sizes of teacher and student, and what the student's guesses cost."""
    metrics = trainer.evaluate() if trainer.eval_dataset else {}
    if not trainer.is_world_process_zero():
        return
    models = {"teacher": trainer.teacher.models[0]} if trainer.teacher else {}
    lines = [["", "vocabulary", "parameters", "MB"]]
    for name, model in (models | {"student": trainer.student}).items():
        size = Footprint.of(model)
        lines.append([name, f"{model.config.vocab_size:,}", f"{size.parameters:,}", f"{size.megabytes:.1f}"])
    print("\n" + "\n".join(aligned(lines, gap=2)))
    if cost := metrics.get("eval_bits_per_character"):
        print(f"\nHidden tokens of --dev_files cost {cost:.4f} bits per character.")


if __name__ == "__main__":
    main()
