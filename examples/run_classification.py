r"""Distil a classifier of texts or pairs of texts into some of its layers.

python examples/run_classification.py --output_dir runs/first    # six emotions of short English texts
python examples/run_classification.py --teacher textattack/bert-base-uncased-MRPC --folders nyu-mll/glue:mrpc \
    --pairs True --metric mrpc --layers 6 --output_dir runs/mrpc

The teacher must be fine-tuned for these classes. `retort distill small_classification` fine-tunes it first, and
supports stages, BiLSTM students and smaller vocabularies. If the script is killed and started again, it resumes from
its last checkpoint.
"""

from dataclasses import dataclass
from functools import partial

from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.hf_argparser import HfArg

from retort import (
    DistillTrainer,
    DistillTrainingArguments,
    ScoreOnDev,
    ScriptParser,
    last_complete_checkpoint,
    read_task,
    score_task,
    shrink,
    tokenize,
)


@dataclass
class ScriptArguments:
    """Teacher, student and rows."""

    teacher: str = HfArg(default="bhadresh-savani/distilbert-base-uncased-emotion", help="Hub id or folder.")
    layers: int = HfArg(default=3, help="Number of the teacher's layers to keep.")
    hidden_size: int | None = HfArg(default=None, help="Width of the student. Default: the teacher's.")
    folders: list[str] = HfArg(default_factory=list, help="Folders with train, dev and test files, or Hub datasets.")
    train: list[str] = HfArg(default_factory=list, help="Training files, instead of the folders'.")
    dev: list[str] = HfArg(default_factory=list, help="Development files. Default: a tenth of train.")
    test: list[str] = HfArg(default_factory=list, help="Test files, scored once, at the end. Default: dev.")
    pairs: bool = HfArg(default=False, help="Rows are two texts and a label.")
    metric: str | None = HfArg(default=None, help="A GLUE task (mrpc) or a module of `evaluate`. Default: accuracy.")
    max_length: int = HfArg(default=128, help="Texts are truncated to this many tokens.")


def main() -> None:
    """Read, shrink, distil, score, save."""
    parser = ScriptParser((ScriptArguments, DistillTrainingArguments), description=__doc__, models=["teacher"])
    parser.set_defaults(logits_weight=1.0, label_weight=1.0, hidden_weight=1.0, layer_map="last", learning_rate=1e-4)
    script, args = parser.parse_args_into_dataclasses()

    teacher = AutoModelForSequenceClassification.from_pretrained(script.teacher, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(script.teacher)
    with args.main_process_first(desc="reading rows"):  # other ranks find the result in the cache of datasets
        folders = script.folders or ([] if script.train else ["dair-ai/emotion"])
        files = {"train": script.train, "dev": script.dev, "test": script.test}
        task = read_task("classification", folders=folders, **files, labels=teacher.config, pairs=script.pairs)
        columns = {"labels": "labels"} | ({"text_pair": "text_pair"} if script.pairs else {})
        train, dev = (
            tokenize(task.splits[name], tokenizer, **columns, max_length=script.max_length) for name in ("train", "dev")
        )

    score = partial(score_task, tokenizer=tokenizer, task=task, max_length=script.max_length, metric=script.metric)
    trainer = DistillTrainer(
        shrink(teacher, layers=script.layers, hidden_size=script.hidden_size),
        script.teacher,
        args,
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        callbacks=[ScoreOnDev(partial(score, split="dev"))],
    )
    theirs = score(teacher)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    ours = score(trainer.student)
    trainer.log_metrics("teacher", theirs)
    trainer.log_metrics("student", ours)
    results = "\n".join(f"- {name}: teacher {theirs[name]:.4f}, student {ours[name]:.4f}" for name in ours)
    trainer.create_model_card(results=results)
    trainer.save_model()  # and pushes, under --push_to_hub True
    trainer.end()


if __name__ == "__main__":
    main()
