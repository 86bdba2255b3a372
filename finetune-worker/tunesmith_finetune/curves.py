"""Curves of a training as SVG: no script, no font or file from elsewhere, so that a report stands on its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 240, 48
COLOURS = ("#1f5fa8", "#b3541e", "#3b7d3b")


@dataclass(frozen=True)
class Curve:
    """A line through points: step and value."""

    name: str
    points: Sequence[tuple[float, float]]


def as_svg(title: str, curves: Sequence[Curve]) -> str:
    """Return a chart of the curves that have points; nothing when none has."""
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return ""
    xs, ys = ([point[axis] for curve in drawn for point in curve.points] for axis in (0, 1))
    low, high = min(*ys, 0.0) if min(ys) < 0 else 0.0, max(ys) or 1.0
    first, last = min(xs), max(*xs, min(xs) + 1)

    def place(point: tuple[float, float]) -> str:
        x = MARGIN + (point[0] - first) / (last - first) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (point[1] - low) / ((high - low) or 1.0) * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    lines = [
        f'<polyline fill="none" stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="2" '
        f'points="{" ".join(map(place, curve.points))}"/>'
        for index, curve in enumerate(drawn)
    ]
    names = [
        f'<text x="{MARGIN + 120 * index}" y="18" fill="{COLOURS[index % len(COLOURS)]}">{escape(curve.name)}</text>'
        for index, curve in enumerate(drawn)
    ]
    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN
    axes = (
        f'<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="#888"/>'
        f'<text x="4" y="{MARGIN + 4}">{high:.3g}</text><text x="4" y="{bottom}">{low:.3g}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 24}">{first:g}</text>'
        f'<text x="{right}" y="{HEIGHT - 24}" text-anchor="end">step {last:g}</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12">{axes}{"".join(names)}{"".join(lines)}</svg>'
    )
