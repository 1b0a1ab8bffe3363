"""The parts that check results: they must be the same on a GPU as on a CPU."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from clock import Kill, Killed
from report import Report
from runs import trainer_of
from safetensors.torch import load_file
from torch import Tensor
from workload import CUDA, TINY, models_of, rows_of, texts_of, tokenizer_of

from retort.modeling.encoding import OutputLayer
from retort.modeling.losses import vocabulary_cross_entropy

ROOT = Path(__file__).parents[2]
# Files of tests whose models are placed by a Trainer, or by the test itself.
TESTS = """activation_checkpointing attention_backends ckd contrastive distill_trainer evaluation_loop heads mcl resume
    steps trainer_conventions vocabulary_losses waits""".split()
# MRR@10 of the quickstart's student on a CPU (docs/performance.md), and the allowed difference.
MRR, MAY_DIFFER = 0.439, 0.005
LAUNCHERS = {
    "torchrun": ["torchrun", "--standalone", "--nproc_per_node=1"],
    "accelerate": ["accelerate", "launch", "--num_processes=1", "--num_machines=1", "--dynamo_backend=no"],
    "zero2": ["deepspeed", "--num_accelerators=1"],
    "zero3": ["deepspeed", "--num_accelerators=1"],
}
if CUDA:  # accelerate shards on GPUs alone
    LAUNCHERS["fsdp"] = LAUNCHERS["torchrun"]


def tests(report: Report) -> None:
    """Run tests with all models on this device."""
    files = [f"tests/test_{name}.py" for name in TESTS]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "8" if CUDA else "2",
        "-p",
        "no:cacheprovider",
        "-rf",
        *files,
    ]
    _, printed = run(command, {"RETORT_TEST_DEVICE": "cuda" if CUDA else "cpu"})
    print(*(f"  {line[:200]}" for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))), sep="\n")
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", printed)}
    told = ", ".join(f"{number} {what}" for what, number in counts.items())
    report.judge(
        f"tests: {told or printed[-300:]}", counts.keys() == {"passed", "skipped"} or list(counts) == ["passed"]
    )


def vocabulary(report: Report) -> None:
    """Compare cross-entropy over 250,002 tokens in chunks with all logits at once."""
    size, tokens, width = (2_002, 64, 32) if report.sizes is TINY else (250_002, 4_096, 768)
    device = torch.device("cuda" if CUDA else "cpu")
    torch.manual_seed(0)
    shapes = (tokens, width), (size, width), (size,)
    leaves = [torch.randn(shape, device=device).mul_(0.1).requires_grad_() for shape in shapes]
    features, layer = leaves[0], OutputLayer(*leaves[1:])
    labels = torch.randint(size, (tokens,), device=device)
    ways = {
        "all at once": lambda: F.cross_entropy(F.linear(features, layer.weight, layer.bias), labels),
        "by chunks": lambda: vocabulary_cross_entropy(features, labels, layer).mean(),
    }
    whole, chunks = (_step(report, name, loss, leaves) for name, loss in ways.items())
    # Relative to the largest value of each tensor, since the gradients of many tokens are tiny.
    apart = max(
        float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in zip(chunks, whole, strict=True)
    )
    report.judge(f"a vocabulary of {size:,}: loss and gradients differ by {apart:.1e}, 1e-4 is allowed", apart <= 1e-4)


def _step(report: Report, name: str, loss: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Compute the loss and its gradients, and print their time and memory."""
    times = []
    for _ in range(4):  # the first one warms up
        if CUDA:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start, held = time.perf_counter(), torch.cuda.memory_allocated() if CUDA else 0
        value = loss()
        gradients = torch.autograd.grad(value, leaves)
        if CUDA:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = (torch.cuda.max_memory_allocated() - held) / 2**30 if CUDA else 0.0
    report.tell(f"vocabulary, {name}", {"ms": 1000 * min(times[1:]), "GiB": peak})
    return value.detach(), *gradients


def resume(report: Report) -> None:
    """Compare a killed and resumed run with an uninterrupted one."""
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "full_determinism": True}
    weights = []
    for name, kill in (("whole", None), ("resumed", 6)):
        trainer, _ = trainer_of(report.sizes, report.folder / f"resume-{name}", **settings)
        if kill:
            trainer.add_callback(Kill(kill))
            with suppress(Killed):
                trainer.train()
            trainer, _ = trainer_of(report.sizes, report.folder / f"resume-{name}", **settings)
        trainer.train(resume_from_checkpoint=kill is not None)
        weights.append(trainer.student.state_dict())
    torch.use_deterministic_algorithms(False)
    apart = max(float((weights[1][name].double() - value.double()).abs().max()) for name, value in weights[0].items())
    report.judge(
        f"killed at step 6 of 8 and resumed, deterministic algorithms: weights differ by {apart:.1e}", apart == 0
    )


def launchers(report: Report) -> None:
    """Train the same student with each launcher, on one process, in float32."""
    folder = report.folder / "launchers"
    teacher, _ = models_of("small", TINY, live=True)
    teacher.save_pretrained(folder / "teacher")
    tokenizer_of(TINY.vocabulary).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n".join(dict.fromkeys(texts_of(rows_of("short", 200, TINY.vocabulary)))))
    script = ROOT / "examples/run_distill.py"
    flags = ["--teacher", folder / "teacher", "--train_files", folder / "text.txt", "--embedding_weight", "1"]
    flags += "--layers 1 --max_length 64 --max_steps 10 --report_to none --dataloader_num_workers 0".split()
    plain: dict[str, Tensor] = {}
    for name, launcher in {"plain": [], **LAUNCHERS}.items():
        output = folder / name
        sharding = ["--deepspeed", ROOT / f"examples/deepspeed/{name}.json"] if name.startswith("zero") else []
        sharding += ["--fsdp"] if name == "fsdp" else []
        first = [Path(sys.executable).with_name(launcher[0]), *launcher[1:]] if launcher else [sys.executable]
        status, printed = run([*first, script, *flags, *sharding, "--output_dir", output])
        if status:
            report.judge(f"{name}: {printed[-600:]}", False)
            continue
        weights = load_file(output / "model.safetensors")
        plain = plain or weights
        apart = max(float((weights[key] - value).abs().max()) for key, value in plain.items())
        if launcher:
            report.judge(f"{name}: weights differ from a plain run's by {apart:.1e}, 1e-4 is allowed", apart <= 1e-4)


def quickstart(report: Report) -> None:
    """Run the recipe `quickstart`, and compare its report with a CPU's."""
    folder = report.folder / "quickstart"
    fewer = ["stages.embeddings.arguments.max_steps=2"] if report.sizes is TINY else []
    start = time.perf_counter()
    status, printed = run([sys.executable, "-m", "retort", "distill", "quickstart", f"output_dir={folder}", *fewer])
    if status:
        report.judge(f"quickstart: {printed[-600:]}", False)
        return
    rows = json.loads((folder / "report.json").read_text())["rows"]
    student = next(row for row in rows if row["role"] == "student")["quality"]["MRR@10"]
    told = f"quickstart: MRR@10 {student:.3f} in {time.perf_counter() - start:.0f} s"
    report.judge(f"{told}; {MRR} ± {MAY_DIFFER} on a CPU", bool(fewer) or abs(student - MRR) <= MAY_DIFFER)


def run(command: list, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in the project's folder. Returns its exit status and its output."""
    device = {} if CUDA else {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **device, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout
