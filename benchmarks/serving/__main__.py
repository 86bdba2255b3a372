"""How fast the platform serves, in one run beside bare servers of the same model: `python -m benchmarks.serving`.

Prints the median of each figure over the repeats, then the ratios with their targets. `--only platform llama-server`
leaves servers out; the first run builds those that it needs.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.ratios import print_ratios
from benchmarks.serving import builds, load
from benchmarks.serving.targets import BATCH, CONTEXT, SLOTS, Target, model_file, others, platform

from tunesmith_engine.settings import EngineSettings

CLIENTS = (1, 4, 8)
OTHERS = ["llama-server", "library", "llama-cpp-python"]
LEAST = {"llama-server": 0.95, "library": 0.95, "llama-cpp-python": 1.0, "llama-batched-bench": 0.85}
_PROMPT_TOKENS = 48  # what the prompts have, with the template around them
Figures = dict[tuple[str, str], float]


def main() -> int:
    """Measure and print; return 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["platform", *OTHERS], choices=["platform", *OTHERS])
    given = parser.parse_args()
    threads = EngineSettings().engine_threads
    with tempfile.TemporaryDirectory() as name, platform(Path(name)) as own:
        model = model_file(Path(name))
        with others(model, Path(name), threads, [other for other in OTHERS if other in given.only]) as targets:
            figures = _measured([own, *targets], given.repeats)
            same = _consistency(own, given.repeats, figures)
        if "llama-server" in given.only:
            _bench(model, threads, given.repeats, figures)
    _print(figures)
    return 1 if _missed(figures, same=same) else 0


def _measured(targets: list[Target], repeats: int) -> Figures:
    """The medians of all servers; they take turns, so that a machine that slows down slows all of them."""
    numbers = count(1, 1000)
    seen: dict[tuple[str, str], list[float]] = {}
    for target in targets:
        asyncio.run(load.first_token(target, 3))
    for _ in range(repeats):
        for what, measure in _cells():
            start = next(numbers)
            for target in targets:
                seen.setdefault((target.name, what), []).append(asyncio.run(measure(target, start)))
    return {where: statistics.median(values) for where, values in seen.items()}


def _cells() -> list[tuple[str, Callable[[Target, int], Coroutine[Any, Any, float]]]]:
    def rate(clients: int) -> Callable[[Target, int], Coroutine[Any, Any, float]]:
        each = 3 if clients == 1 else 2
        return lambda target, start: load.tokens_per_second(target, clients, each, start)

    cells = [(f"{clients} clients", rate(clients)) for clients in CLIENTS]
    return [*cells, ("first token", lambda target, _: load.first_token(target, 15))]


def _consistency(own: Target, repeats: int, figures: Figures) -> bool:
    """Put the time of five samples in one request, to that of five requests, into `figures`; say whether they agree."""
    seen = [asyncio.run(load.consistency(own, 100 * repeat)) for repeat in range(repeats)]
    figures["platform", "self-consistency"] = statistics.median(one.together / one.singles for one in seen)
    return all(one.same for one in seen)


def _bench(model: Path, threads: int, repeats: int, figures: Figures) -> None:
    """Put what `llama-batched-bench` does with as many sequences into `figures`: with the prompts, and without."""
    words = [str(builds.llama_cpp() / "llama-batched-bench"), "-m", str(model), "-t", str(threads)]
    words += ["-c", str(SLOTS * CONTEXT), "-b", str(BATCH), "-ub", str(BATCH), "-npp", str(_PROMPT_TOKENS)]
    words += ["-ntg", str(load.TOKENS), "-npl", str(SLOTS), "--output-format", "jsonl"]
    whole, decode = [], []
    for _ in range(repeats):
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        [line] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        whole.append(SLOTS * load.TOKENS / (line["t_pp"] + line["t_tg"]))
        decode.append(line["speed_tg"])
    figures["llama-batched-bench", "8 clients"] = statistics.median(whole)
    figures["llama-batched-bench", "decode alone"] = statistics.median(decode)


def _print(figures: Figures) -> None:
    columns = [*(f"{clients} clients" for clients in CLIENTS), "decode alone", "first token"]
    print(f"{'tokens a second; first token in ms':36}" + "".join(f"{column:>14}" for column in columns))
    for name in dict.fromkeys(name for name, _ in figures):
        cells = (figures.get((name, column)) for column in columns)
        scaled = (
            value if column != "first token" or value is None else 1000 * value
            for value, column in zip(cells, columns, strict=True)
        )
        print(f"{name:36}" + "".join(f"{value:14.1f}" if value is not None else f"{'':14}" for value in scaled))


def _missed(figures: Figures, *, same: bool) -> int:
    """Print the ratios with their targets; return how many were missed."""
    own = figures["platform", "8 clients"]
    ratios = [("8 clients to one", own / figures["platform", "1 clients"], ">=", 2.5)]
    for name, target in LEAST.items():
        if (name, "8 clients") in figures:
            ratios.append((f"8 clients, to {name}", own / figures[name, "8 clients"], ">=", target))
    if ("llama-server", "first token") in figures:
        later = 1000 * (figures["platform", "first token"] - figures["llama-server", "first token"])
        ratios.append(("first token later than llama-server's, ms", later, "<=", 10))
    ratios.append(("five samples, to five requests", figures["platform", "self-consistency"], "<=", 0.5))
    ratios.append(("the same samples and winner", float(same), ">=", 1))
    return print_ratios(ratios)


if __name__ == "__main__":
    sys.exit(main())
