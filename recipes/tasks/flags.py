"""The flags of run_ner.py and run_classification.py, and the recipe that they amount to."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig
from transformers.hf_argparser import HfArg

from ...trainers.arguments import DistillTrainingArguments, check_choices
from ...trainers.stages import Stage
from ..schema import BiLstm, NewTokenizer, Recipe, Student, TaskEvaluation, TaskFiles, Teacher, number_or_layers


@dataclass
class TaskArguments:
    """Teacher and data."""

    teacher: str = HfArg(help="Hub id or folder of any encoder. One without a head for the task is fine-tuned first.")
    task_folder: list[str] = HfArg(
        default_factory=list,
        help="Folders with train, dev and test files (.tsv, .conll, .jsonl, .parquet), labels.tsv and "
        "transfer.txt, or names of datasets; each may begin with a language (da=folder), for scores by language.",
    )
    train_files: list[str] = HfArg(default_factory=list, help="In place of the folders' train files.")
    dev_files: list[str] = HfArg(default_factory=list, help="In place of the folders' dev files.")
    test_files: list[str] = HfArg(default_factory=list, help="In place of the folders' test files.")
    transfer_files: list[str] = HfArg(
        default_factory=list, help="Text without labels to distil on. Default: the training texts."
    )
    labels_file: str | None = HfArg(default=None, help="Labels, one per line, in the order of their ids.")
    max_length: int = HfArg(
        default=128, help="Tokens that a model reads at once. Longer rows to tag become windows; longer texts are cut."
    )
    stride: int | None = HfArg(
        default=None,
        help="Of tagging: tokens that neighbouring windows of a long row share. Default: a quarter of their text.",
    )
    onnx: bool = HfArg(default=False, help="Also export to ONNX, in float32 and int8, and measure that.")
    dry_run: bool = HfArg(default=False, help="Show the stages, and what each would train, and stop.")


@dataclass
class StudentArguments:
    """The student: some of the teacher's layers, a checkpoint, or a BiLSTM."""

    layers: list[int] | None = HfArg(
        default=None, help="How many of the teacher's layers to keep, or which, from 0. Default: half."
    )
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    num_attention_heads: int | None = HfArg(default=None, help="Heads of the student.")
    student: str | None = HfArg(default=None, help="A checkpoint to start from, instead of layers.")
    student_tokenizer: str | None = HfArg(
        default=None, help="Hub id or folder of its tokenizer. Default: the teacher's."
    )
    vocab_size: int | None = HfArg(
        default=None, help="Train a tokenizer of so many tokens on the texts, for a student of layers."
    )
    trim_to: int | None = HfArg(
        default=None, help="Likewise, but of the teacher's tokens, without those that texts need least."
    )
    bilstm: list[int] | None = HfArg(
        default=None, help="A BiLSTM student: widths of its word embeddings and of its state (the paper: 300 600)."
    )
    embedding_init: Literal["svd", "pca"] = HfArg(
        default="svd", help="How narrower word embeddings are made of the fine-tuned teacher's; the paper: pca."
    )
    freeze_embeddings: bool = HfArg(default=False, help="Don't train the word embeddings.")
    classifier_projector: bool = HfArg(
        default=False, help="Put a projector into the teacher's width before the classifier; it folds away on export."
    )

    def __post_init__(self):
        check_choices(self)
        sizes = self.layers or self.hidden_size or self.num_attention_heads
        ways = {"--bilstm": self.bilstm, "--student": self.student, "layers or their sizes": sizes}
        if len(given := [name for name, value in ways.items() if value]) > 1:
            raise SystemExit(f"A student is made in one way, but here are {' and '.join(given)}.")
        if self.bilstm and len(self.bilstm) != 2:
            raise SystemExit(f"--bilstm takes two widths, of word embeddings and of the state, not {self.bilstm}.")
        if sum(map(bool, (self.student_tokenizer, self.vocab_size, self.trim_to))) > 1:
            raise SystemExit("A student has one tokenizer: give --student_tokenizer, --vocab_size or --trim_to.")
        if self.bilstm and (self.student_tokenizer or self.vocab_size or self.trim_to):
            raise SystemExit("A BiLSTM is given its teacher's word embeddings, and so its tokenizer: leave out yours.")


@dataclass
class ScheduleArguments:
    """The stages: representations and logits on the transfer set, then labels."""

    teacher_epochs: float = HfArg(default=5, help="Epochs of the teacher's own fine-tuning, at most.")
    teacher_learning_rate: float = HfArg(default=5e-5, help="Of the teacher's own fine-tuning.")
    lora_rank: int | None = HfArg(default=None, help="Fine-tune the teacher by adapters of this rank.")
    distil_epochs: float = HfArg(default=5, help="Epochs of each stage on the transfer set, at most.")
    ft_epochs: float = HfArg(default=5, help="Epochs of each stage on the labels, at most.")
    ft_learning_rate: float | None = HfArg(
        default=None, help="Of the stages on the labels. Default: that of all stages."
    )
    gradual_unfreezing: Literal["encoder", "layers", "none"] = HfArg(
        default="encoder",
        help="Unfreeze from the head down, the encoder as one group or layer by layer, or all at once.",
    )
    distil_chunk_size: int | None = HfArg(
        default=None, help="Rows of the transfer set to go through before the next ones. Default: all."
    )
    distil_multi_hidden_states: bool = HfArg(
        default=False, help="Compare all hidden states, aligned at the top, not the last alone."
    )
    distil_attention: bool = HfArg(default=False, help="Compare attention maps as well.")
    patience: int = HfArg(default=5, help="Evaluations on dev without a better one, after which to stop.")

    def __post_init__(self):
        check_choices(self)


def recipe_of(
    kind: str,
    task: TaskArguments,
    student: StudentArguments,
    schedule: ScheduleArguments,
    args: DistillTrainingArguments,
    *,
    pairs: bool = False,
    metric: str | None = None,
) -> Recipe:
    """The recipe that flags stand for.

    Args:
        kind: `tagging` or `classification`.
        task, student, schedule, args: the flags; `args` go to all trainers, but for those of a push: it is the finished
            student that is pushed, and no stage.
        pairs: whether rows are pairs of texts.
        metric: of classification (see `TaskFiles`).
    """
    arguments = not_default(args)
    push, hub_id = arguments.pop("push_to_hub", False), arguments.pop("hub_model_id", Path(args.output_dir).name)
    return Recipe(
        teacher=Teacher(task.teacher, fine_tuning=_fine_tuning(schedule)),
        student=_student(student, task.teacher),
        data=TaskFiles(
            kind,
            folders=task.task_folder,
            train=task.train_files,
            dev=task.dev_files,
            test=task.test_files,
            transfer=task.transfer_files,
            labels=task.labels_file,
            pairs=pairs,
            max_length=task.max_length,
            stride=task.stride,
        ),
        stages=tuple(_stages(schedule, student)),
        arguments=arguments,
        evaluation=TaskEvaluation(metric, task.onnx),
        output_dir=args.output_dir,
        push_to_hub=hub_id if push else None,
    )


def not_default(args: DistillTrainingArguments) -> dict[str, Any]:
    """The arguments that are not at their defaults, but for a launcher's --local_rank: all ranks go by one plan."""
    plain = DistillTrainingArguments(output_dir=args.output_dir)
    values = {each.name: getattr(args, each.name) for each in fields(args) if each.init and each.name != "local_rank"}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


def _selecting(metric: str, greater_is_better: bool = True) -> dict[str, Any]:
    """Evaluate every epoch, and end with the best model."""
    return {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater_is_better,
    }


def _fine_tuning(schedule: ScheduleArguments) -> Stage:
    arguments = {
        "num_train_epochs": schedule.teacher_epochs,
        "learning_rate": schedule.teacher_learning_rate,
        "warmup_steps": 0.1,
    }
    lora = schedule.lora_rank and {"r": schedule.lora_rank, "lora_alpha": 2 * schedule.lora_rank}
    return Stage("fine-tuning", arguments | _selecting("eval_score"), patience=schedule.patience, lora=lora or None)


def _student(flags: StudentArguments, teacher: str) -> Student:
    tokenizer = _tokenizer(flags)
    shared = {
        "freeze_embeddings": flags.freeze_embeddings,
        "projector": flags.classifier_projector,
        "tokenizer": tokenizer,
    }
    if flags.bilstm:
        return Student(bilstm=BiLstm(*flags.bilstm, embedding_init=flags.embedding_init), **shared)
    if flags.student:
        return Student(model=flags.student, embedding_init=None if tokenizer else flags.embedding_init, **shared)
    layers = number_or_layers(flags.layers)
    if layers is None:
        layers = -(-AutoConfig.from_pretrained(teacher).num_hidden_layers // 2)
    return Student(
        layers=layers,
        hidden_size=flags.hidden_size,
        num_attention_heads=flags.num_attention_heads,
        embedding_init=flags.embedding_init,
        **shared,
    )


def _tokenizer(flags: StudentArguments) -> str | NewTokenizer | None:
    """What a recipe says of a student's own tokenizer."""
    if flags.vocab_size or flags.trim_to:
        return NewTokenizer(flags.vocab_size, flags.trim_to)
    return flags.student_tokenizer


def _stages(schedule: ScheduleArguments, student: StudentArguments) -> list[Stage]:
    """Representations, logits, labels."""
    by = None if schedule.gradual_unfreezing == "none" else schedule.gradual_unfreezing
    on_transfer = {"num_train_epochs": schedule.distil_epochs} | _selecting("eval_loss", greater_is_better=False)
    representations = {"attention_weight": 1.0} if schedule.distil_attention else {}
    if schedule.distil_multi_hidden_states or schedule.distil_attention:
        representations |= {"hidden_weight": 1.0, "layer_map": "top"}
    elif student.classifier_projector:
        representations |= {"features_weight": 1.0}
    else:
        representations |= {"hidden_weight": 1.0, "layer_map": "last"}
    transfer = {"data": "transfer", "chunk_rows": schedule.distil_chunk_size, "patience": schedule.patience}
    on_labels = {"label_weight": 1.0, "num_train_epochs": schedule.ft_epochs} | _selecting("eval_score")
    if schedule.ft_learning_rate:
        on_labels["learning_rate"] = schedule.ft_learning_rate
    logits = {"logits_weight": 1.0, "logits_loss": "mse"}
    return [
        Stage("representations", on_transfer | representations, **transfer),
        Stage("logits", on_transfer | logits, gradual_unfreezing=by, cache_teacher=True, **transfer),
        Stage("labels", on_labels, gradual_unfreezing=by, patience=schedule.patience),
    ]
