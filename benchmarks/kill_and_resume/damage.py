"""Damage every file that a run goes on from, start the run again, and see whether it notices.

Each file of the last checkpoint, of the teacher's cache and of the finished stages is deleted, cut to its half, and
changed by one bit in some places, one after the other. The run must then be refused with an error that names the file;
or, where it can make the file anew (a shard of the cache, with the teacher at hand), end with what it would have ended
with.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cases import Case, content, table
from tqdm import tqdm

VERDICTS = ("refused by name", "made anew", "file not named", "SILENT")


def damage_everything(cases: Sequence[Case], flips: int, scratch: Path) -> int:
    """Try all damages on all cases, and print what came of them; returns how many were not as they should be."""
    lines, wrong = [["run", "setup", "files", "damages", *VERDICTS]], []
    whole, damaged = scratch / "whole", scratch / "damaged"
    for case in cases:
        case.run_uninterrupted(whole)
        files, counts = targets(whole), Counter()
        jobs = [(file, *damage) for file in files for damage in damages(file, flips)]
        bar = tqdm(jobs, desc=f"{case.name}, {case.setup}")
        for file, name, left in bar:
            shutil.copytree(whole, damaged)
            path = damaged / file.relative_to(whole)
            path.unlink() if left is None else path.write_bytes(left)
            found, told = verdict(case, damaged, path.name)
            counts[found] += 1
            bar.set_postfix(counts)
            if found in VERDICTS[2:]:
                wrong.append(f"{case.name}, {case.setup}: {file.relative_to(whole)} {name}: {found}: {told}")
            shutil.rmtree(damaged)
        lines.append([case.name, case.setup, *map(str, (len(files), len(jobs), *(counts[each] for each in VERDICTS)))])
    print("\n".join([table(lines), *wrong, f"{len(wrong)} wrong"]))
    return len(wrong)


def targets(folder: Path) -> list[Path]:
    """The files that a run goes on from, but for those that hold nothing."""
    checkpoints = sorted(folder.glob("run/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))[-1:]
    folders = [*checkpoints, *folder.glob("cache/*"), *(file.parent for file in folder.rglob("stage.json"))]
    return sorted({path for each in folders for path in each.rglob("*") if path.is_file() and path.stat().st_size})


def damages(path: Path, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """What each damage is called, and what it leaves of a file; None: nothing."""
    whole = path.read_bytes()
    yield "deleted", None
    yield "cut", whole[: len(whole) // 2]
    for place in range(flips):
        at = place * (len(whole) - 1) // max(flips - 1, 1)
        yield f"flipped at byte {at}", whole[:at] + bytes([whole[at] ^ (1 << place % 8)]) + whole[at + 1 :]


def verdict(case: Case, folder: Path, name: str) -> tuple[str, str]:
    """Start a run on what was damaged; returns what came of it, and the error."""
    for log in folder.parent.glob(f"{folder.name}.*.log"):
        log.unlink()
    codes, _ = case.start(folder)
    if any(codes):
        error = re.split(r"\n(?=[\w.]+: )", case.log(folder))[-1]
        return ("refused by name" if name in error else "file not named"), error
    found = content(folder)
    equal = all(found.get(file) == digest for file, digest in case.expected.items())
    return ("made anew" if equal else "SILENT"), "the run ended"
