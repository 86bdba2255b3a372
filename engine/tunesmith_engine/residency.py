"""Which loaded models must go so that another fits: policy without processes, clocks or models."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model as the policy sees it; ``used_at`` is any clock that grows."""

    key: Hashable
    bytes: int
    used_at: float
    busy: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What loaded models may take together."""

    bytes: int
    models: int


def choose_evictions(residents: Iterable[Resident], needed_bytes: int, limits: Limits) -> list[Hashable] | None:
    """The models to unload, least recently used first; None when too many are busy and the caller has to wait.

    A model that alone is larger than the limit never fits; check that before.
    """
    all_residents = list(residents)
    used, count = sum(resident.bytes for resident in all_residents), len(all_residents)
    chosen: list[Hashable] = []
    for resident in sorted(all_residents, key=lambda resident: resident.used_at):
        if used + needed_bytes <= limits.bytes and count < limits.models:
            break
        if not resident.busy:
            chosen.append(resident.key)
            used -= resident.bytes
            count -= 1
    fits = used + needed_bytes <= limits.bytes and count < limits.models
    return chosen if fits else None
