"""The readers on some thousand random files, whole and damaged; benchmarks/fuzz_readers.py has ten thousand."""

from pathlib import Path

import pytest
from scripts import run_script

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz_readers.py"


@pytest.mark.promise(9)
def test_no_file_gives_wrong_rows_or_an_error_without_its_line():
    assert "3000 inputs, 0 wrong" in run_script(FUZZ, "--inputs", 3000, "--whole", 60)
