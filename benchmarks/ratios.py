"""Ratios beside their targets, as every benchmark prints them."""

from collections.abc import Iterable


def print_ratios(ratios: Iterable[tuple[str, float, str, float]]) -> int:
    """Print each (what, ratio, "<=" or ">=", target); return how many missed their target."""
    print()
    missed = 0
    for what, ratio, sense, target in ratios:
        met = ratio <= target if sense == "<=" else ratio >= target
        missed += not met
        print(f"{what:50}{ratio:8.2f}   target {sense} {target:g}: {'met' if met else 'MISSED'}")
    return missed
