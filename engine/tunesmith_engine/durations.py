"""Durations as Ollama's clients write them: Go's spelling (``1h30m``, ``500ms``, ``-1s``) or a number of seconds."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration(value: str | float) -> float | None:
    """Seconds; None for any negative duration, which means for ever. Raises ValueError for what is no duration."""
    if isinstance(value, int | float):
        return float(value) if value >= 0 else None
    text = value.strip()
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if re.fullmatch(r"\d+(\.\d+)?", digits):
        seconds = float(digits)
    else:
        parts = _PART.findall(digits)
        if not parts or "".join(number + unit for number, unit in parts) != digits:
            raise ValueError(f"invalid duration {value!r}; write 30s, 5m, 1h30m, 0 or -1")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return seconds if sign > 0 or seconds == 0 else None
