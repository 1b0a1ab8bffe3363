"""What all tests share: no network, one thread per worker, few log lines; and the list of promises at the end."""

import os
from collections import defaultdict

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
# Tests run on all cores at once, and OpenMP's threads wait for each other by spinning: with two, a test may take ten
# times as long. accelerate, too, goes by this.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import tiny
import torch
import transformers
from hypothesis import settings

pytest_plugins = ["reader_files", "task_folders"]

# No test is timed. By default, hypothesis fails an example that takes longer than 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

PROMISES = {
    1: "The teacher is frozen, in eval, outside the student, run without gradients",
    2: "Resume is exact: killed at any step, the weights end bitwise the same",
    3: "Neither accumulation nor the number of ranks changes the gradient",
    4: "Padding doesn't change a loss",
    5: "What is exported is a stock folder that loads without retort",
    6: "Models are selected on a development set, never on the test set",
    7: "Nothing is unpickled",
    8: "No call to a network that the user didn't ask for",
    9: "An error says what was given, what was expected, and the way out",
}


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_single_threaded():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


@pytest.fixture(autouse=True)
def _said_anew():
    """What is said once in a process is said once in each test."""
    transformers.utils.logging.warning_once.cache_clear()


@pytest.fixture(scope="session")
def tokenizer():
    return tiny.tokenizer()


def pytest_runtest_setup(item):
    for marker in item.iter_markers("promise"):
        item.user_properties.append(("promise", marker.args[0]))


def pytest_terminal_summary(terminalreporter):
    """List the promises with the tests that would fail without them."""
    tests = defaultdict(lambda: defaultdict(int))
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, number in getattr(report, "user_properties", []):
                if name == "promise" and report.when == "call":
                    tests[number][outcome] += 1
    if not tests:
        return
    terminalreporter.section("promises")
    for number, text in PROMISES.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in tests[number].items())
        terminalreporter.write_line(f"{number}  {text}: {counts or 'no test run'}")
