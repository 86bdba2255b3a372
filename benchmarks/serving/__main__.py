"""How fast the platform serves, in one run beside bare servers of the same model: `python -m benchmarks.serving`.

Prints the median of each figure over the repeats, then the ratios with their targets. `--only platform llama-server`
leaves servers out, `--repeats 1 --tokens 8` tries it out; the first run builds the servers that it needs.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from benchmarks.ratios import print_ratios
from benchmarks.serving import builds, consistency, load
from benchmarks.serving.targets import BATCH, CONTEXT, SLOTS, Target, model_file, others, platform

from tunesmith_engine.settings import EngineSettings

OTHERS = ["llama-server", "library", "llama-cpp-python"]
LEAST = {"llama-server": 0.95, "library": 0.95, "llama-cpp-python": 1.0, "llama-batched-bench": 0.85}
_EACH = {1: 2, 4: 1, 8: 1}  # answers that each of so many clients asks for
_BENCH = "llama-batched-bench"
_SEQUENCES = (1, consistency.SAMPLES, SLOTS)
_PROMPT_TOKENS = 48  # what the prompts have, with the template around them
_RATES = [f"{clients} clients" for clients in _EACH]
_FIRSTS = [*(f"{clients} clients, first" for clients in _EACH), "read before, first"]
Figures = dict[tuple[str, str], float]


def main() -> int:
    """Measure and print; return 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96, help="how long each answer is")
    parser.add_argument("--only", nargs="+", default=["platform", *OTHERS], choices=["platform", *OTHERS])
    given = parser.parse_args()
    threads = EngineSettings().engine_threads
    with tempfile.TemporaryDirectory() as name, platform(Path(name)) as own:
        model = model_file(Path(name))
        with others(model, Path(name), threads, [other for other in OTHERS if other in given.only]) as targets:
            figures = _measured([*own, *targets], given.repeats, given.tokens)
            samples = [consistency.measure(own[0], number, given.tokens) for number in range(given.repeats)]
        if "llama-server" in given.only:
            _bench(model, threads, given.repeats, given.tokens, figures)
    _print("tokens a second", figures, [*_RATES, *map(_decode_alone, _SEQUENCES)])
    _print("ms to the first token", figures, _FIRSTS)
    _print_samples(samples)
    _print_bounds(figures)
    return 1 if _missed(figures, samples) else 0


def _measured(targets: list[Target], repeats: int, tokens: int) -> Figures:
    """The medians of all servers; they take turns, in another order each time: what slows the machine slows all."""
    numbers = count(1000, 100)
    seen: dict[tuple[str, str], list[float]] = {}
    for target in targets:
        asyncio.run(load.first_token(target, 3))
    for repeat in range(repeats):
        first = repeat % len(targets)
        turns = [*targets[first:], *targets[:first]]
        for clients, each in _EACH.items():
            for target in turns:  # two of them share a cache of prompts
                one = asyncio.run(load.put(target, [tokens] * each, clients, next(numbers)))
                print(f"{clients} clients of {target.name}: {one.rate:.1f} tokens a second", file=sys.stderr)
                seen.setdefault((target.name, f"{clients} clients"), []).append(one.rate)
                seen.setdefault((target.name, f"{clients} clients, first"), []).append(1000 * one.first)
        for target in turns:
            seconds = asyncio.run(load.first_token(target, 15))
            seen.setdefault((target.name, "read before, first"), []).append(1000 * seconds)
    return {where: statistics.median(values) for where, values in seen.items()}


def _bench(model: Path, threads: int, repeats: int, tokens: int, figures: Figures) -> None:
    """Put what `llama-batched-bench` does with as many sequences into `figures`: with the prompts, and without."""
    words = [str(builds.llama_cpp() / _BENCH), "-m", str(model), "-t", str(threads)]
    words += ["-c", str(SLOTS * CONTEXT), "-b", str(BATCH), "-ub", str(BATCH), "-npp", str(_PROMPT_TOKENS)]
    words += ["-ntg", str(tokens), "-npl", ",".join(map(str, _SEQUENCES)), "--output-format", "jsonl"]
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        for line in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")):
            count = line["pl"]
            seen.setdefault((_BENCH, f"{count} clients"), []).append(count * tokens / (line["t_pp"] + line["t_tg"]))
            seen.setdefault((_BENCH, _decode_alone(count)), []).append(line["speed_tg"])
    figures |= {where: statistics.median(values) for where, values in seen.items()}


def _decode_alone(sequences: int) -> str:
    return f"{sequences}, no prompts"


def _print_bounds(figures: Figures) -> None:
    """Say what llama.cpp itself gains from several sequences, which bounds what any server on it can gain."""
    if (_BENCH, "1 clients") not in figures:
        return
    one, samples, slots = (figures[_BENCH, _decode_alone(count)] for count in _SEQUENCES)
    with_prompts = figures[_BENCH, f"{SLOTS} clients"] / figures[_BENCH, "1 clients"]
    print(f"\n{_BENCH}, without a server and without sampling")
    print(f"   {SLOTS} sequences to one: {with_prompts:.2f}; without the prompts {slots / one:.2f}")
    print(
        f"   {consistency.SAMPLES} sequences together, to one after another, without the prompts: {one / samples:.2f}"
    )


def _print(what: str, figures: Figures, columns: list[str]) -> None:
    print(f"\n{what:24}" + "".join(f"{column:>20}" for column in columns))
    for name in dict.fromkeys(name for name, column in figures if column in columns):
        cells = (figures.get((name, column)) for column in columns)
        print(f"{name:24}" + "".join(f"{value:20.1f}" if value is not None else f"{'':20}" for value in cells))


def _print_samples(samples: list[consistency.Consistency]) -> None:
    print(f"\nfive samples in one request, and in five, after a prompt of {samples[0].prompt_tokens} tokens")
    for one in samples:
        same = f"{one.same_texts} of {consistency.SAMPLES} texts the same"
        print(f"{one.together:6.1f} s for {one.singles:.1f} s, {same}")


def _missed(figures: Figures, samples: list[consistency.Consistency]) -> int:
    """Print the ratios with their targets; return how many were missed."""
    own = figures["platform", "8 clients"]
    ratios = [("8 clients to one", own / figures["platform", "1 clients"], ">=", 2.5)]
    for name, target in LEAST.items():
        if (name, "8 clients") in figures:
            ratios.append((f"8 clients, to {name}", own / figures[name, "8 clients"], ">=", target))
    if ("llama-server", "read before, first") in figures:
        later = figures["platform", "read before, first"] - figures["llama-server", "read before, first"]
        ratios.append(("first token later than llama-server's, ms", later, "<=", 10))
    spent = statistics.median(one.together / one.singles for one in samples)
    ratios.append(("five samples, to five requests", spent, "<=", 0.5))
    ratios.append(("the same winner", statistics.fmean(one.same_winner for one in samples), ">=", 1))
    return print_ratios(ratios)


if __name__ == "__main__":
    sys.exit(main())
