"""What run_sentence.py and run_ckd.py share: their flags, and a run from text to a judged student."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import AutoConfig, PreTrainedModel
from transformers.hf_argparser import HfArg

from ...data.readers import read_sts, read_texts
from ...data.tokenization import tokenize
from ...evaluation.report import Role, markdown_table, text_table, write_report
from ...evaluation.sentences import load_sentence_teacher, side_by_side, sts_of_each
from ...modeling.encoding import SentenceEncoder
from ...modeling.shrinking import shrink
from ...trainers import DistillTrainer
from ...trainers.arguments import DistillTrainingArguments
from ...trainers.stages import ScoreOnDev
from ..schema import number_or_layers
from ..student_recipe import train_and_save


@dataclass
class SentenceArguments:
    """Teacher, text and student."""

    teacher: str = HfArg(help="Hub id or folder; a SentenceTransformer's pooling is read from its files.")
    train_files: list[str] = HfArg(
        help="Text to distil on: .txt (one per line), .tsv, .csv, .jsonl, .parquet (also .gz), folders or names "
        "of datasets; with the columns that hold text where there are several, as in pairs.tsv:question,answer or, "
        "without a header, pairs.tsv:0,1."
    )
    exclude_files: list[str] = HfArg(
        default_factory=list, help="Texts to leave out, such as a test set's; named as train_files are."
    )
    layers: list[int] | None = HfArg(
        default=None,
        help="How many of the teacher's layers to keep, spread evenly; or which, from 0: 0 2 5. Default: half.",
    )
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    max_length: int = HfArg(default=128, help="Tokens to which texts are cut.")


@dataclass
class STSArguments:
    """What sentence encoders are judged by."""

    sts_dev: str | None = HfArg(
        default=None,
        help="TSV with columns sentence1, sentence2, score, or two such files that translate each other "
        "(en.tsv+de.tsv) for pairs across languages: with --eval_strategy, its Spearman correlation is "
        "reported as eval_sts, by which --load_best_model_at_end may select.",
    )
    sts_test: str | None = HfArg(default=None, help="Likewise; scored once, at the end. Never selected on.")

    def read(self) -> tuple[Dataset | None, Dataset | None]:
        """The pairs of both."""
        return self.sts_dev and read_sts(self.sts_dev), self.sts_test and read_sts(self.sts_test)


def distil(
    trainer_class: type[DistillTrainer],
    options: SentenceArguments,
    measure: STSArguments,
    args: DistillTrainingArguments,
) -> None:
    """Distil, judge the student beside its teacher and its untrained self, save it."""
    teacher, texts, rows = prepare(options, args)
    # Both are read now: a mistake in a file should not show after hours of training.
    dev, test = measure.read()
    trainer = trainer_class(
        new_student(options, teacher),
        options.teacher,
        args,
        train_dataset=rows,
        eval_dataset=dev and tokenize_for(teacher, dev, text="sentence1"),
        processing_class=teacher.tokenizer,
        callbacks=[score_on_dev(teacher, dev, args.pooler)] if dev else [],
    )

    def judge() -> None:
        if not trainer.is_world_process_zero() or not test:
            return
        models = {
            Path(options.teacher).name: (Role.TEACHER, teacher),
            "student, untrained": (Role.UNTRAINED, teacher.with_model(new_student(options, teacher), args.pooler)),
            "student": (Role.STUDENT, teacher.with_model(trainer.student, args.pooler)),
        }
        report = side_by_side(
            models,
            lambda model: sts_of_each(model, {"STS Spearman": test}),
            test["sentence1"],
            trainer.state.log_history,
            measured=f"Spearman correlation on the {len(test):,} pairs of {Path(measure.sts_test).name}.",
        )
        write_report(report, args.output_dir)
        read = {", ".join(Path(name).name for name in options.train_files): len(texts)}
        trainer.create_model_card(
            summary=report.title, results=markdown_table(report), measured=report.measured, data=read
        )
        print(f"\n{text_table(report)}\n\nreport.json, report.png and the student: {args.output_dir}/")

    train_and_save(trainer, judge, lambda: how_to_use(args.output_dir))


def prepare(options: SentenceArguments, args: DistillTrainingArguments) -> tuple[SentenceEncoder, Dataset, Dataset]:
    """The teacher, the texts, and their tokens; sets the run's poolers to the teacher's."""
    with args.main_process_first(desc="reading text"):
        teacher = load_model(options.teacher, options.max_length, args)
        excluded = read_texts(options.exclude_files) if options.exclude_files else ()
        texts = read_texts(options.train_files, exclude=excluded)
        rows = tokenize_for(teacher, texts)
    return teacher, texts, rows


def load_model(source: str, max_length: int, args: DistillTrainingArguments) -> SentenceEncoder:
    """A SentenceTransformer's encoder, or any encoder; sets the run's poolers to its own.

    Raises:
        SystemExit: --pooler names another. Teacher and student are used in the same way.
    """
    model = load_sentence_teacher(source, max_length, args.teacher_pooler, otherwise=args.pooler)
    modes = model.modules.pooling.modes
    if len(modes) > 1:  # no student has its vectors concatenated
        return model
    if args.pooler not in (DistillTrainingArguments.pooler, *modes):
        raise SystemExit(f"{source} pools by {modes[0]!r}, but --pooler {args.pooler!r} was asked for.")
    args.pooler = args.teacher_pooler = modes[0]
    return model


def tokenize_for(teacher: SentenceEncoder, texts: Dataset, text: str = "text") -> Dataset:
    """Rows for a teacher, whose default prompt it reads, and for a student with its tokenizer."""
    length, prompt = teacher.max_length, teacher.modules.prompt()
    return tokenize(texts, teacher.tokenizer, text=text, max_length=length, teacher_prompt=prompt)


def new_student(options: SentenceArguments, teacher: SentenceEncoder) -> PreTrainedModel:
    """The student before training."""
    layers = number_or_layers(options.layers)
    if layers is None:
        layers = -(-teacher.model.config.num_hidden_layers // 2)
    return shrink(teacher.model, layers=layers, hidden_size=options.hidden_size)


def score_on_dev(encoder: SentenceEncoder, pairs: Dataset, pooler: str) -> ScoreOnDev:
    """Adds to every evaluation how a model scores that has the tokenizer of `encoder`."""
    return ScoreOnDev(lambda model: sts_of_each(encoder.with_model(model, pooler), {"sts": pairs}))


def how_to_use(folder: str | Path) -> str:
    """The two lines of Python that use a finished student."""
    code = ", trust_remote_code=True" if hasattr(AutoConfig.from_pretrained(folder), "auto_map") else ""
    return (
        "from sentence_transformers import SentenceTransformer\n"
        f'embeddings = SentenceTransformer("{folder}"{code}).encode(["A vessel to distil in.", "A glass retort."])'
    )
