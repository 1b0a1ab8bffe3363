"""Make a smaller tokenizer for a student, trained on text or trimmed: `retort vocabulary`."""

import sys

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["vocabulary", *sys.argv[1:]]))
