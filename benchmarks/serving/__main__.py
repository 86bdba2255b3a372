"""How fast the platform serves, in one run beside bare servers of the same model: `python -m benchmarks.serving`.

Prints the median of each figure over the repeats, each with servers of its own, then the ratios with their targets.
`--only platform llama-server` leaves servers out, `--repeats 1 --tokens 8` tries it out; the first run builds the
servers that it needs. `--llama-server` measures the platform in another llama-server, which is then also the bare one,
or in the `library` of the wheel, and `--model` measures with a GGUF of one's own.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from benchmarks.serving import builds, consistency, load, report
from benchmarks.serving.report import BENCH, CLIENTS, SEQUENCES, decode_alone
from benchmarks.serving.targets import BATCH, CONTEXT, SLOTS, Target, model_file, others, platform

from tunesmith_engine.llama_server import LIBRARY
from tunesmith_engine.settings import EngineSettings

OTHERS = ["llama-server", "library", "llama-cpp-python"]
Seen = dict[tuple[str, str], list[float]]
"""By server and figure, one value a repeat."""

_EACH = dict(zip(CLIENTS, (3, 2, 2), strict=True))  # answers that each of so many clients asks for
_WARM_TOKENS = 4
_PROMPT_TOKENS = 48  # what the prompts have, with the template around them


def main() -> int:
    """Measure and print; return 1 when a target was missed."""
    given = _arguments()
    threads = EngineSettings().engine_threads
    seen: Seen = {}
    samples = []
    for repeat in range(given.repeats):
        # All servers anew: how fast a process is depends on where its memory lies, and stays with it.
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            own = stack.enter_context(platform(folder, given.model, given.llama_server))
            model = model_file(folder)
            named = given.llama_server if given.llama_server != LIBRARY else ""
            bare = [other for other in OTHERS if other in given.only]
            beside = others(bare, folder, model, threads, named or str(builds.llama_server(model)))
            _measure([*own, *stack.enter_context(beside)], repeat, given.tokens, seen)
            samples.append(consistency.measure(own[0], repeat, given.tokens))
            stack.close()  # nothing else is to run beside the next
            if "llama-server" in given.only:
                _bench(model, threads, given.tokens, seen)
    figures = {where: statistics.median(values) for where, values in seen.items()}
    report.print_figures(figures, samples)
    return 1 if report.missed(figures, samples) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96, help="how long each answer is")
    parser.add_argument("--only", nargs="+", default=["platform", *OTHERS], choices=["platform", *OTHERS])
    parser.add_argument("--model", type=Path, help="a GGUF to measure with, in place of the first model")
    parser.add_argument("--llama-server", default="", help=f"what the models run in: a path, or {LIBRARY}")
    return parser.parse_args()


def _measure(targets: list[Target], repeat: int, tokens: int, seen: Seen) -> None:
    """Put into `seen` what all servers do; they take turns, in another order each time: what slows one slows all."""
    for target in targets:
        asyncio.run(load.first_token(target, 3))
    numbers = count(1000, 100)
    first = repeat % len(targets)
    turns = [*targets[first:], *targets[:first]]
    for clients, each in _EACH.items():
        for target in turns:  # two of them share a cache of prompts
            # Its weights may have left the memory while it waited for its turn.
            asyncio.run(load.put(target, [_WARM_TOKENS], clients, next(numbers)))
            one = asyncio.run(load.put(target, [tokens] * each, clients, next(numbers)))
            print(f"{clients} clients of {target.name}: {one.rate:.1f} tokens a second", file=sys.stderr)
            seen.setdefault((target.name, f"{clients} clients"), []).append(one.rate)
            seen.setdefault((target.name, f"{clients} clients, first"), []).append(1000 * one.first)
    for target in turns:
        seconds = asyncio.run(load.first_token(target, 15))
        seen.setdefault((target.name, "read before, first"), []).append(1000 * seconds)


def _bench(model: Path, threads: int, tokens: int, seen: Seen) -> None:
    """Put into `seen` what `llama-batched-bench` does with as many sequences: with the prompts, and without."""
    words = [str(builds.batched_bench(model)), "-m", str(model), "-t", str(threads)]
    words += ["-c", str(SLOTS * CONTEXT), "-b", str(BATCH), "-ub", str(BATCH), "-npp", str(_PROMPT_TOKENS)]
    words += ["-ntg", str(tokens), "-npl", ",".join(map(str, SEQUENCES)), "--output-format", "jsonl"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    for line in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")):
        number = line["pl"]
        seen.setdefault((BENCH, f"{number} clients"), []).append(number * tokens / (line["t_pp"] + line["t_tg"]))
        seen.setdefault((BENCH, decode_alone(number)), []).append(line["speed_tg"])


if __name__ == "__main__":
    sys.exit(main())
