"""Score sentence embeddings: STS, transfer tasks by linear probes, retrieval of translations."""

from retort.commands import evaluate

if __name__ == "__main__":
    evaluate.main()
