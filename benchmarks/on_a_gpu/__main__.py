"""What retort does on a GPU, and how fast: a table, and PASS or FAIL for each thing that is asked.

python benchmarks/on_a_gpu [--parts PART ...] [--tiny] [--json FILE]

- `target`: a student of six of twelve layers of 768, cached teacher, bf16, 128 rows of 30 to 256 tokens (162 in the
  mean), attention by one kernel for all rows.
- `peers`: the same student by sentence-transformers' trainer (bf16, its default attention, the teacher's vectors in a
  column), in turns with retort, teacher cached and live, on mixed rows and on short ones.
- `shapes`: each back end of attention, compiled and not, on short, mixed and long rows, six layers of 384 and of 768.
- `ckd`: a step of CKDTrainer with a queue of 65,536, next to one of DistillTrainer; a live teacher.
- `vocabulary`: cross-entropy over 250,002 tokens by chunks, beside all logits at once.
- `resume`: a run that is killed and resumed ends with the weights of one that goes through.
- `launchers`: torchrun, accelerate and deepspeed (ZeRO-2, ZeRO-3) on one process train the student of a plain run.
- `quickstart`: the recipe reaches on a GPU what it reaches on a CPU.
- `tests`: those tests whose models can lie on any device.

Models have random weights and rows random words, of lengths drawn from a fixed seed: neither changes how long a step
takes. Steps are timed from the end of one to the end of another, fetching of batches included, after some that warm
up. Then some are profiled (kernels started, time on the device) and some run while torch tells of every operation that
waits for the device. `--tiny` runs it on a CPU, with small models, to see that it runs; speeds aren't judged there.
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
# With --tiny, the others take minutes on a CPU: they are run when they are named.
QUICK = ("target", "peers", "ckd", "vocabulary", "resume", "launchers")


def main() -> None:
    """Read the command line and measure; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all; with --tiny, those that are quick")
    parser.add_argument("--tiny", action="store_true", help="small models and few steps")
    parser.add_argument("--timed", type=int, default=60, help="steps that are timed (default: 60)")
    parser.add_argument("--json", help="file to which results are added, one a line")
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
    print(f"{len(report.failed)} failed" if report.failed else "all that is asked holds")
    raise SystemExit(bool(report.failed))


if __name__ == "__main__":
    main()
