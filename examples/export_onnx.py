"""Export a finished model to ONNX, check it against PyTorch, and measure what it gains: `retort export`."""

import sys

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["export", *sys.argv[1:]]))
