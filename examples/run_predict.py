"""Tag words or classify texts with a finished model, file by file, however large: `retort predict`."""

import sys

from retort.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["predict", *sys.argv[1:]]))
