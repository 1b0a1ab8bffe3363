"""Speed and correctness of retort on a GPU: a table of measurements, and PASS or FAIL for each requirement.

python benchmarks/on_a_gpu [--parts PART ...] [--tiny] [--json FILE]

- `target`: a student with six of twelve layers, 768 wide; cached teacher, bf16, 128 rows of 30 to 256 tokens (162 on
  average), one attention kernel for all rows.
- `peers`: the same student, trained by sentence-transformers (bf16, default attention, the teacher's vectors in a
  column) and by retort (cached and live teacher) in turns, on mixed and on short rows.
- `shapes`: each attention back end, and compiled models, on short, mixed and long rows, for six layers of width 384
  and 768.
- `ckd`: steps of CKDTrainer with a queue of 65,536, and of DistillTrainer, with a live teacher.
- `vocabulary`: cross-entropy over 250,002 tokens in chunks, and with all logits at once.
- `resume`: a killed and resumed run ends with the weights of an uninterrupted run.
- `launchers`: torchrun (also with FSDP2, on a GPU), accelerate and deepspeed (ZeRO-2, ZeRO-3) on one process train the
  same student as a plain run.
- `quickstart`: the recipe has the same quality on a GPU as on a CPU.
- `tests`: the tests whose models can be on any device.

Models have random weights, and rows have random words, with lengths drawn from a fixed seed. Neither changes the time
of a step. Steps are timed after a warm-up, with the loading of batches. Further steps are profiled (number of kernels,
time on the device), and then others run while torch reports all operations that wait for the device. `--tiny` runs all
this with small models, on a CPU if there is no GPU. Speeds are only judged on a GPU.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic algorithms, from the first product on

import torch
from checks import launchers, quickstart, resume, tests, vocabulary
from datasets import disable_progress_bars
from report import Report
from speed import ckd, peers, shapes, target
from transformers.utils import logging
from workload import CUDA, TINY, Sizes

PARTS = {part.__name__: part for part in (target, peers, ckd, vocabulary, resume, launchers, quickstart, tests, shapes)}
# The parts of --tiny by default. The others take minutes on a CPU.
QUICK = ("target", "peers", "ckd", "vocabulary", "resume", "launchers")


def main() -> None:
    """Read the command line and run the benchmark. The exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all; with --tiny, the quick ones")
    parser.add_argument("--tiny", action="store_true", help="small models and few steps")
    parser.add_argument("--timed", type=int, default=60, help="number of timed steps (default: 60)")
    parser.add_argument("--json", help="file to which results are appended, as JSON lines")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    sizes = TINY if options.tiny else Sizes(timed=options.timed)
    where = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"{where}, torch {torch.__version__}, {sizes}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(sizes, Path(folder), options.json)
        for name in options.parts or (QUICK if options.tiny else PARTS):
            report.run(PARTS[name])
    print(f"{len(report.failed)} failed" if report.failed else "All requirements are met.")
    raise SystemExit(bool(report.failed))


if __name__ == "__main__":
    main()
