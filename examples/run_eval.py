"""Score sentence embeddings: `retort eval`."""

import sys

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["eval", *sys.argv[1:]]))
