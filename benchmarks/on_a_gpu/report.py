"""Prints the table of measurements, and whether requirements are met."""

from __future__ import annotations

import gc
import json
import traceback
from collections.abc import Callable
from pathlib import Path

from workload import Sizes


class Report:
    """Prints measurements at once, and appends them to a file of JSON lines.

    Attributes:
        failed: requirements that are not met, and measurements that failed.
    """

    COLUMNS = ("ms", "GPU ms", "sentences/s", "TFLOP/s", "GiB", "kernels", "waits", "loader ms", "tokens/row")

    def __init__(self, sizes: Sizes, folder: Path, file: str | None):
        self.sizes, self.folder, self.file = sizes, folder, file
        self.failed: list[str] = []
        print(" | ".join(["what", *self.COLUMNS, "batches"]), flush=True)

    def run(self, part: Callable[[Report], None]) -> None:
        """Run a part of the benchmark. An exception is a failure, and doesn't stop the other parts."""
        gc.collect()
        try:
            part(self)
        except Exception:
            traceback.print_exc()
            self.judge(f"{part.__name__} raised an exception", False)

    def measure(self, name: str, run: Callable[..., dict], sizes: Sizes | None = None, **settings) -> dict:
        """Make a measurement. An exception is a failure, and doesn't stop the other measurements."""
        gc.collect()
        try:
            found = run(sizes or self.sizes, self.folder, **settings)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
            self.failed.append(name)
        self.tell(name, found)
        return found

    def tell(self, name: str, found: dict) -> None:
        """Print a measurement as a line of the table. For `target`, print the profile of a step below it."""
        cells = [f"{found[c]:,.4g}" if c in found else "-" for c in self.COLUMNS]
        print(" | ".join([name, *cells, found.get("batches", found.get("error", ""))]), flush=True)
        for detail in ("where", "longest", "longest on the host"):
            if found.get(detail) and name.startswith("target"):
                print(f"  {detail}:", *(f"    {value}  {key}" for key, value in found[detail].items()), sep="\n")
        self._keep({"what": name} | found)

    def judge(self, what: str, passes: bool) -> None:
        """Print whether a requirement is met."""
        print(f"{'PASS' if passes else 'FAIL'}  {what}", flush=True)
        self._keep({"what": what, "passes": passes})
        if not passes:
            self.failed.append(what)

    def _keep(self, line: dict) -> None:
        if self.file:
            with open(self.file, "a") as lines:
                lines.write(json.dumps(line) + "\n")
