"""Estimate how tree-like a model's token vectors are, and the curvature that would suit them: `retort curvature`."""

import sys

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["curvature", *sys.argv[1:]]))
