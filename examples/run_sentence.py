"""Distil a sentence encoder on your own text.

python examples/run_sentence.py --teacher sentence-transformers/all-MiniLM-L6-v2 --layers 0 2 5 \
    --train_files corpus.txt pairs.tsv:question,answer --output_dir runs/mine --num_train_epochs 2

Runs as it is, or under torchrun or deepspeed on several GPUs. Killed and started again, it goes on from its last
checkpoint.
"""

from retort import DistillTrainer
from retort.commands import parse
from retort.recipes.sentences import SentenceArguments, STSArguments, distil


def main() -> None:
    """Parse, distil, judge, save."""
    options, measure, args = parse(SentenceArguments, STSArguments, DistillTrainer.arguments_class, description=__doc__)
    distil(DistillTrainer, options, measure, args)


if __name__ == "__main__":
    main()
