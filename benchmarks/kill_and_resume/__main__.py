"""Kill runs at random moments, resume them, and compare what they end with to the run that nobody killed.

python benchmarks/kill_and_resume [--kills 300] [--seed 0] [--only NAME ...] [--summary FILE] [--keep FOLDER]
python benchmarks/kill_and_resume --damage [--flips 10] [--only NAME ...]

The runs are the five trainers (one of them with a teacher's cache, too), stages and a recipe, on one process and on two
under DDP, ZeRO-2 and ZeRO-3, all on the CPU. Their learning rate is constant and they end inside an epoch, so that a
step too many or a row out of order shows in the weights.

Half of the kills come at a random moment of the wall clock, to all processes at once. The other half come right before
a random file operation (a file opened for writing, a rename, a removal...), in the process that would do it; the others
follow, as under a launcher. The run is then started again, perhaps killed again, until it ends. It must end with the
files and folders of the uninterrupted run, no more and no fewer, and each file of weights or of cached outputs must be
equal to its file byte by byte.

The tables that are printed at the end are written to --summary after each run, too. Importing torch and transformers
takes longer than such a run, so processes are forked from this one, which has imported all and computes nothing.

With --damage, see damage.py.
"""

import argparse
import gc
import os
import random
import shutil
import tempfile
import threading
from pathlib import Path

os.environ.update(DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

import datasets
import deepspeed.runtime.zero.muon.muon_optimizer  # imported when an engine starts, and slow: it takes inductor along
import torch
import transformers
from cases import Case, Outcome, Summary, all_cases, in_rounds
from damage import damage_everything
from forks import Kill
from tqdm import tqdm

KILLED_AGAIN = 0.25  # of the runs that were killed


def draw_kill(case: Case, draw: random.Random) -> Kill:
    """By the clock or by a file operation, evenly over the uninterrupted run."""
    if draw.random() < 0.5:
        return Kill(seconds=draw.uniform(0, case.seconds))
    rank = draw.randrange(case.world) if draw.random() < 0.25 else 0
    return Kill(rank=rank, operation=draw.randint(1, case.operations[rank]))


def kill_and_resume(case: Case, folder: Path, draw: random.Random) -> Outcome:
    """Kill a run once or more, let it end, and compare what it leaves."""
    outcome = Outcome(case)
    while not outcome.kills or draw.random() < KILLED_AGAIN:
        kill = draw_kill(case, draw)
        codes, _ = case.start(folder, kill)
        if not any(codes):  # it had ended before: what is left of it is looked at all the same
            break
        if not case.was_killed(codes, kill):
            return outcome.failed(case.log(folder))
        outcome.add(kill, folder)
    codes, _ = case.start(folder)
    if any(codes):
        return outcome.failed(f"exit codes {codes}: {case.log(folder)}")
    return outcome.compared(folder)


def main() -> int:
    """Kill, resume, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="runs or setups whose names hold one of these")
    parser.add_argument("--summary", type=Path, help="file of the tables")
    parser.add_argument("--keep", type=Path, help="folder for what differs or fails")
    parser.add_argument("--damage", action="store_true", help="damage files instead")
    parser.add_argument("--flips", type=int, default=10, help="of a bit, in each file that is damaged")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # its thread would be forked, too
    tqdm.set_lock(threading.RLock())  # its own is shared by forks: one that is killed with it would stop all others
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first, for two minutes
    cases = [case for case in all_cases() if any(word in f"{case.name}, {case.setup}" for word in options.only)]
    gc.freeze()  # collecting garbage in a fork would else touch, and so copy, all that was imported
    draw, summary = random.Random(options.seed), Summary(options.summary)
    rounds = in_rounds(cases, draw)
    with tempfile.TemporaryDirectory() as scratch:
        if options.damage:
            return int(damage_everything(cases, options.flips, Path(scratch)) > 0)
        with tqdm(total=options.kills, unit="kill") as bar:
            while bar.n < options.kills:
                case = next(rounds)
                bar.set_description(f"{case.name}, {case.setup}")
                if not case.expected:
                    case.run_uninterrupted(Path(scratch) / "whole")
                folder = Path(scratch) / "killed"
                outcome = kill_and_resume(case, folder, draw)
                summary.add(outcome)
                bar.update(min(len(outcome.kills), options.kills - bar.n))
                bar.set_postfix(wrong=summary.wrong)
                if outcome.problem and options.keep:
                    shutil.copytree(scratch, options.keep / f"{bar.n}", dirs_exist_ok=True)
                for path in Path(scratch).glob("killed*"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(summary.text())
    return int(summary.wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
