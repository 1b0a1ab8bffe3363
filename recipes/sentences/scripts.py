"""Steps of the scripts that train sentence encoders, beside those that the trainers and readers already have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, PreTrainedModel

from ...data.tokenization import tokenize
from ...evaluation.report import Quality, Role, Rows, bootstrapped, text_table, write_report
from ...evaluation.sentences import load_sentence_teacher, rank_correlation, side_by_side, sts_of_each, sts_pairs
from ...modeling.encoding import SentenceEncoder
from ...trainers import DistillTrainer
from ...trainers.arguments import DistillTrainingArguments
from ...trainers.stages import ScoreOnDev
from ..card import report_facts
from ..schema import number_or_layers


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


def layers_to_keep(flag: list[int] | None, teacher: PreTrainedModel) -> int | list[int]:
    """What `--layers` says, as `shrink` takes it: one number is how many, several are which; None keeps half."""
    return -(-teacher.config.num_hidden_layers // 2) if flag is None else number_or_layers(flag)


def score_on_dev(encoder: SentenceEncoder, pairs: Dataset, pooler: str) -> ScoreOnDev:
    """Adds to every evaluation how a model scores that has the tokenizer of `encoder`."""
    return ScoreOnDev(lambda model: sts_of_each(encoder.with_model(model, pooler), {"sts": pairs}))


def report_sts(
    trainer: DistillTrainer, teacher: SentenceEncoder, untrained: PreTrainedModel, pairs: Dataset, named: str
) -> Mapping[str, Any]:
    """Judge the trained student beside its teacher and its untrained self; print that, and write it into `output_dir`.

    Args:
        trainer: whose student is judged, on one rank only; its teacher was named by a folder or hub id.
        teacher: whose tokenizer the student has.
        untrained: the student before training.
        pairs: columns sentence1, sentence2 and score; never trained or selected on.
        named: what they are called.

    Returns:
        What the model card says of it (see `create_model_card`).
    """
    args = trainer.args
    models = {
        Path(trainer.teacher_sources[0]).name: (Role.TEACHER, teacher),
        "student, untrained": (Role.UNTRAINED, teacher.with_model(untrained, args.pooler)),
        "student": (Role.STUDENT, teacher.with_model(trainer.student, args.pooler)),
    }
    report = side_by_side(
        models,
        lambda model: _sts_quality(model, pairs),
        pairs["sentence1"],
        trainer.state.log_history,
        measured=f"Spearman correlation on the {len(pairs):,} pairs of {named}.",
        test_set=f"{named}, {len(pairs):,} pairs",
        dev_names={"sts": "STS Spearman"},
    )
    write_report(report, args.output_dir)
    print(f"\n{text_table(report)}\n\nreport.json, report.png and the student: {args.output_dir}/")
    return report_facts(report)


def _sts_quality(model: SentenceEncoder, pairs: Dataset) -> Quality:
    ((cosines, gold),) = sts_pairs(model, {"": pairs}).values()

    def spearman(rows: Rows) -> dict[str, float]:
        drawn = rows(len(gold))
        return {"STS Spearman": rank_correlation(cosines[drawn], gold[drawn])}

    return bootstrapped(spearman)


def how_to_use(folder: str | Path) -> str:
    """The two lines of Python that use a finished student."""
    code = ", trust_remote_code=True" if hasattr(AutoConfig.from_pretrained(folder), "auto_map") else ""
    return (
        "from sentence_transformers import SentenceTransformer\n"
        f'embeddings = SentenceTransformer("{folder}"{code}).encode(["A vessel to distil in.", "A glass retort."])'
    )
