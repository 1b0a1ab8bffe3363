"""The end of a script that runs one trainer, from training to the lines that use its student."""

from collections.abc import Callable

from ..trainers import DistillTrainer
from ..trainers.saving import last_complete_checkpoint


def train_and_save(trainer: DistillTrainer, judge: Callable[[], None], how_to_use: Callable[[], str]) -> None:
    """Train, from the last complete checkpoint if there is one, judge, save the student, and let the ranks go.

    Args:
        trainer: what trains.
        judge: called on all ranks when training has ended.
        how_to_use: code for the saved student; called on the first rank.
    """
    folder = trainer.args.output_dir
    checkpoint = last_complete_checkpoint(folder)
    if checkpoint and trainer.is_world_process_zero():
        print(f"Going on from {checkpoint}. To start anew, delete {folder}.")
    trainer.train(resume_from_checkpoint=checkpoint)
    judge()
    trainer.save_model()
    if trainer.is_world_process_zero():
        print(f"\n{how_to_use()}\n")
    trainer.end()
