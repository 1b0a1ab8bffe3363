"""Single optimizer steps, outside `train()`."""

import torch


def step_of(trainer, *batches):
    """The micro-batches of a step, as the trainer sees them: rows by their indices, and what means go over."""
    made = iter([trainer.data_collator([trainer.train_dataset[i] for i in batch]) for batch in batches])
    return trainer.get_batch_samples(made, len(batches), torch.device("cpu"))


def gradient_of(trainer, *batches):
    """The gradient of a step by all parameters that have one, in one vector."""
    trainer.create_optimizer()
    trainer.model.zero_grad()
    made, counts = step_of(trainer, *batches)
    for batch in made:
        trainer.training_step(trainer.model, batch, counts)
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
