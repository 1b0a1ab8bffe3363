"""Refuses attention that depends on the other rows of a batch, and on earlier batches."""

from transformers import PreTrainedModel


def refuse_block_sparse(model: PreTrainedModel, role: str) -> None:
    """Refuse a model with block-sparse attention (BigBird).

    It pads rows to whole blocks, so the outputs for a row depend on the longest one of its batch. A batch of short
    rows switches the model to full attention for good, so outputs depend on earlier batches, too. The configuration is
    read, not the model: it doesn't change with the switch, and it is what a student's folder says.

    Args:
        role: what the model can't be, such as "a student".
    """
    if getattr(model.config, "attention_type", None) == "block_sparse":
        raise ValueError(
            f"{type(model).__name__} has attention_type='block_sparse' in its configuration. A row's outputs then "
            f"depend on the other rows of its batch, and on whether an earlier batch was short. So it can't be {role}. "
            "Load it with full attention, which has the same weights: from_pretrained(name, "
            "attention_type='original_full'). For a folder, set attention_type in its config.json."
        )
