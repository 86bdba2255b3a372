"""What the gateway costs, in one run beside a bare pass-through and LiteLLM's proxy: `python -m benchmarks.gateway`.

Prints the median of each figure over the repeats, then the ratios with their targets. `--only bare gateway` leaves
LiteLLM out; `--seconds` and `--repeats` say how long each cell is measured and how often.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from benchmarks.gateway.load import Measured, Plan
from benchmarks.gateway.targets import Target, running
from benchmarks.gateway.upstream import MODEL
from benchmarks.ratios import print_ratios
from benchmarks.servers import ROOT

PATH = "/v1/chat/completions"
ASKED: dict[str, object] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Why is the sky blue? " * 10}],
    "max_tokens": 100,
}


@dataclass(frozen=True)
class Cell:
    """One kind of load."""

    name: str
    clients: int
    stream: bool


CELLS = (
    Cell("whole, 1 client", 1, False),
    Cell("whole, 32 clients", 32, False),
    Cell("stream of 100, 1 client", 1, True),
    Cell("stream of 100, 32 clients", 32, True),
)
Figures = dict[tuple[str, str], Measured]


def main() -> int:
    """Measure and print; return 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["bare", "gateway", "litellm"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), given.only) as targets:
        figures = _measured(targets, given.seconds, given.repeats)
    for cell in CELLS:
        _print_cell(cell, targets, figures)
    return 1 if _missed(figures, given.only) else 0


def _measured(targets: list[Target], seconds: float, repeats: int) -> Figures:
    """Return the median of every cell; the targets take turns, so that a machine that slows down slows all of them."""
    for target in targets:
        _warm_up(target)
    seen: dict[tuple[str, str], list[Measured]] = {}
    for _ in range(repeats):
        for cell in CELLS:
            for target in targets:
                seen.setdefault((cell.name, target.name), []).append(_load(target, cell, seconds))
    return {where: _median(measured) for where, measured in seen.items()}


def _warm_up(target: Target) -> None:
    """Let a server load what it loads with its first requests."""
    headers = {"authorization": f"Bearer {target.key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{target.port}", headers=headers, timeout=120) as client:
        for cell in 10 * CELLS:
            client.post(PATH, json=_body(cell)).raise_for_status()


def _body(cell: Cell) -> dict[str, object]:
    return {**ASKED, **({"stream": True} if cell.stream else {})}


def _load(target: Target, cell: Cell, seconds: float) -> Measured:
    body = json.dumps(_body(cell))
    plan = Plan(target.port, PATH, body, target.key, cell.clients, seconds, target.pid)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway.load"],
        cwd=ROOT,
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{target.name}, {cell.name}:\n{done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout))


def _median(measured: list[Measured]) -> Measured:
    def middle(field: str) -> float:
        return statistics.median(float(getattr(one, field)) for one in measured)

    return Measured(
        requests=int(middle("requests")),
        per_second=middle("per_second"),
        p50=middle("p50"),
        p99=middle("p99"),
        cpu=middle("cpu"),
    )


def _print_cell(cell: Cell, targets: list[Target], figures: Figures) -> None:
    direct = figures[cell.name, "direct"]
    print(f"\n{cell.name:28}{'a second':>10}{'added p50':>12}{'added p99':>12}{'CPU each':>11}   (ms)")
    for target in targets:
        one = figures[cell.name, target.name]
        added = (one.p50 - direct.p50, one.p99 - direct.p99)
        print(f"  {target.name:26}{one.per_second:10.0f}{added[0]:12.2f}{added[1]:12.2f}{one.cpu:11.2f}")


def _missed(figures: Figures, names: list[str]) -> int:
    """Print the ratios with their targets; return how many were missed."""
    lone, many, streams = (CELLS[index].name for index in (0, 1, 3))
    ratios: list[tuple[str, float, str, float]] = []
    if "bare" in names:
        cpu = figures[many, "gateway"].cpu / figures[many, "bare"].cpu
        ratios.append(("CPU a request, to the bare pass-through", cpu, "<=", 2.5))
    if "litellm" in names:
        for cell in (lone, many):
            direct = figures[cell, "direct"].p50
            added = (figures[cell, "gateway"].p50 - direct) / (figures[cell, "litellm"].p50 - direct)
            ratios.append((f"added p50 to LiteLLM's: {cell}", added, "<=", 0.10))
        for what, cell, target in (("requests", many, 12.0), ("streams", streams, 25.0)):
            rate = figures[cell, "gateway"].per_second / figures[cell, "litellm"].per_second
            ratios.append((f"{what} a second, to LiteLLM's", rate, ">=", target))
    return print_ratios(ratios)


if __name__ == "__main__":
    sys.exit(main())
