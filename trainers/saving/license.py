"""The license of a teacher, as its model card names it."""

import logging
import os
from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError

logger = logging.getLogger(__name__)

LICENSE_ENTRIES = ("license", "license_name", "license_link")


def teacher_license(name_or_path: str | os.PathLike) -> dict[str, str]:
    """The license in a teacher's model card, as arguments for `CardFacts`; empty if there is none.

    Args:
        name_or_path: a folder or hub id.
    """
    path = Path(name_or_path) / "README.md"
    in_a_folder = Path(name_or_path).is_dir()
    if in_a_folder and not path.is_file():
        return {}
    try:
        card = ModelCard.load(path if in_a_folder else os.fspath(name_or_path), ignore_metadata_errors=True)
    except EntryNotFoundError:
        return {}
    except Exception as error:  # offline, no access, no YAML: the card says that the license is unknown
        logger.warning("The license in the model card of the teacher %s could not be read (%s).", name_or_path, error)
        return {}
    metadata = card.data.to_dict()
    return {key: str(metadata[key]) for key in LICENSE_ENTRIES if metadata.get(key)}
