"""Distil a sentence encoder contrastively, with a queue of the teacher's embeddings (DistilCSE, arXiv:2112.05638).

python examples/run_ckd.py --teacher princeton-nlp/sup-simcse-roberta-large --layers 6 \
    --train_files corpus.txt --output_dir runs/ckd --queue_size 65536 --contrastive_temperature 0.05

The student learns to know each sentence's teacher embedding among those of the whole step and of past ones. Any other
objective can be added by its weight, as --embedding_weight. Runs as it is, or under torchrun or deepspeed on several
GPUs. Killed and started again, it goes on from its last checkpoint, queue included.
"""

from retort import CKDTrainer
from retort.commands import parse
from retort.recipes.sentences import SentenceArguments, STSArguments, distil


def main() -> None:
    """Parse, distil, judge, save."""
    options, measure, args = parse(SentenceArguments, STSArguments, CKDTrainer.arguments_class, description=__doc__)
    distil(CKDTrainer, options, measure, args)


if __name__ == "__main__":
    main()
