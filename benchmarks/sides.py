"""What the speed measurements share: sides that take turns, and the table they end in.

Each side is a process of its own, so that it has its own environment, threads and peak memory.
They take turns within each round, one running at a time, so that a busy machine slows all alike;
what is printed are medians over the rounds, and ratios of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mfm.processes import launch

Answer = dict[str, Any]


class Side:
    """One side of a comparison: `program --side REQUEST`, which answers when it is asked."""

    def __init__(
        self, name: str, program: str, settings: Answer, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.answers: list[Answer] = []
        self.warm_up: Answer = {}
        self._process = subprocess.Popen(
            [sys.executable, program, "--side", json.dumps({"name": name, **settings})],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> None:
        """Let it run one question; `answer` waits for the result."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        """The result of the last question."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early, exit code {self._process.wait()}")
        answer: Answer = json.loads(line)
        return answer

    def measure(self) -> Answer:
        """Run and keep one round."""
        self.ask("measure")
        self.answers.append(self.answer())
        return self.answers[-1]

    def median(self, key: str) -> float:
        """Median over the rounds so far."""
        return statistics.median(answer[key] for answer in self.answers)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def take_turns(sides: Sequence[Side], *, rounds: int) -> None:
    """One warmup and `rounds` measured rounds of all sides, interleaved."""
    for side in sides:
        side.ask("warm up")
        side.warm_up = side.answer()
    for _ in range(rounds):
        for side in sides:
            side.measure()


def against(
    reference: str,
    program: str,
    settings: Answer,
    *,
    rounds: int,
    others: Mapping[str, Answer] | None = None,
) -> list[Side]:
    """The reference, ours with glibc's own allocator settings, ours, and others that ours could be.

    Measured in turns.
    """
    sides = [
        Side(reference, program, settings),
        Side("ours, plain allocator", program, settings),
        Side("ours", program, settings, launch.KEEP_MEMORY),
        *(
            Side(name, program, settings | more, launch.KEEP_MEMORY)
            for name, more in (others or {}).items()
        ),
    ]
    take_turns(sides, rounds=rounds)
    return sides


def serve(answers: dict[str, Callable[[], Answer]]) -> None:
    """The loop of a side's process: answer each question that comes in, in JSON."""
    for question in sys.stdin:
        print(json.dumps(answers[question.strip()]()), flush=True)


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def add_clock(parser: argparse.ArgumentParser) -> None:
    """The option that chooses what is measured."""
    parser.add_argument(
        "--clock",
        default="wall",
        choices=CLOCKS,
        help="'processor': time that the process computed, for a machine that is busy with other "
        "work; use it with --threads 1, because idle threads wait busily (default: %(default)s)",
    )


def seconds(function: Callable[[], object], clock: str) -> float:
    """Time of one call by one of CLOCKS, until a GPU is done with it."""
    _wait()
    started = CLOCKS[clock]()
    function()
    _wait()
    return CLOCKS[clock]() - started


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype, clock: str, *, device: torch.device, repeats: int = 3) -> float:
    """FLOP/s of the best of a few products of two square matrices."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, clock) for _ in range(repeats + 1))


def resident_mb() -> float:
    """Memory that this process has now, in MB."""
    return _status("VmRSS")


def peak_mb() -> float:
    """The most memory that this process ever had, in MB."""
    return _status("VmHWM")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell {name}")


def machine(threads: int) -> str:
    """One line: processor, cores, versions, and how busy the machine is with other work."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    if torch.cuda.is_available():
        model = f"{torch.cuda.get_device_name()}, {model}"
    return (
        f"{model}, {os.cpu_count()} cores, {threads} threads used, torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
