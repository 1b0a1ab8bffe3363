"""Distil a sentence encoder on your own text.

python examples/run_sentence.py --teacher sentence-transformers/all-MiniLM-L6-v2 --layers 0 2 5 \\
    --train_files corpus.txt pairs.tsv:question,answer --output_dir runs/mine --num_train_epochs 2

Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again, it goes on from its last
checkpoint.
"""

from __future__ import annotations

import transformers
from sentence_flags import distil

from retort import DistillTrainer

if __name__ == "__main__":
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()  # of loading and saving: gone before one can read it
    distil(DistillTrainer, description=__doc__)
