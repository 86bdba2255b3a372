"""What `benchmarks.serving` prints: a table of the figures, and the platform's ratios beside their targets."""

import statistics

from benchmarks.ratios import print_ratios
from benchmarks.serving import consistency
from benchmarks.serving.targets import PLATFORM, SLOTS

BENCH = "llama-batched-bench"
CLIENTS = (1, 4, SLOTS)
SEQUENCES = (1, consistency.SAMPLES, SLOTS)
_LEAST = {"llama-server": 0.95, "library": 0.95, "llama-cpp-python": 1.0, BENCH: 0.85}
_RATES = [f"{clients} clients" for clients in CLIENTS]
_FIRSTS = [*(f"{clients} clients, first" for clients in CLIENTS), "read before, first"]
_ALL = f"{SLOTS} clients"
Figures = dict[tuple[str, str], float]
Samples = list[consistency.Consistency]


def decode_alone(sequences: int) -> str:
    """The column of so many sequences without their prompts."""
    return f"{sequences}, no prompts"


def print_figures(figures: Figures, samples: Samples) -> None:
    """Print everything that was measured."""
    _print("tokens a second", figures, [*_RATES, *map(decode_alone, SEQUENCES)])
    _print("ms to the first token", figures, _FIRSTS)
    print(f"\nfive samples in one request, and in five, of a prompt of {samples[0].prompt_tokens} tokens")
    for one in samples:
        same = f"{one.same_texts} of {consistency.SAMPLES} texts the same"
        print(f"{one.together:6.1f} s for {one.singles:.1f} s, {same}")
    if (BENCH, "1 clients") in figures:
        _print_bounds(figures)


def _print(what: str, figures: Figures, columns: list[str]) -> None:
    print(f"\n{what:24}" + "".join(f"{column:>20}" for column in columns))
    for name in dict.fromkeys(name for name, column in figures if column in columns):
        cells = (figures.get((name, column)) for column in columns)
        print(f"{name:24}" + "".join(f"{value:20.1f}" if value is not None else f"{'':20}" for value in cells))


def _print_bounds(figures: Figures) -> None:
    """Say what llama.cpp itself gains from several sequences, which bounds what any server on it can gain."""
    one, samples, slots = (figures[BENCH, decode_alone(count)] for count in SEQUENCES)
    with_prompts = figures[BENCH, _ALL] / figures[BENCH, "1 clients"]
    print(f"\n{BENCH}, without a server and without sampling")
    print(f"   {SLOTS} sequences to one: {with_prompts:.2f}; without the prompts {slots / one:.2f}")
    print(
        f"   {consistency.SAMPLES} sequences together, to one after another, without the prompts: {one / samples:.2f}"
    )


def missed(figures: Figures, samples: Samples) -> int:
    """Print the ratios with their targets; return how many were missed."""
    own = figures[PLATFORM, _ALL]
    ratios = [("8 clients to one", own / figures[PLATFORM, "1 clients"], ">=", 2.5)]
    for other, target in _LEAST.items():
        if (other, _ALL) in figures:
            ratios.append((f"8 clients, to {other}", own / figures[other, _ALL], ">=", target))
    if ("llama-server", "read before, first") in figures:
        later = figures[PLATFORM, "read before, first"] - figures["llama-server", "read before, first"]
        ratios.append(("first token later than llama-server's, ms", later, "<=", 10))
    spent = statistics.median(one.together / one.singles for one in samples)
    ratios.append(("five samples, to five requests", spent, "<=", 0.5))
    ratios.append(("the same winner", statistics.fmean(one.same_winner for one in samples), ">=", 1))
    return print_ratios(ratios)
