"""OpenAI's search filters (`eq ne gt gte lt lte in nin`, `and`, `or`) in the language of the index."""

from collections.abc import Callable, Mapping
from typing import Any

from tunesmith_rag.index import FILTERABLE, Filter, attribute_key
from tunesmith_shared.errors import BadRequest

_COMPARISONS = {"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"}
_ORDERINGS = {"gt", "gte", "lt", "lte"}
_MAX_DEPTH = 8
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda has, value: has == value,
    "$ne": lambda has, value: has != value,
    "$gt": lambda has, value: has > value,
    "$gte": lambda has, value: has >= value,
    "$lt": lambda has, value: has < value,
    "$lte": lambda has, value: has <= value,
    "$in": lambda has, value: has in value,
    "$nin": lambda has, value: has not in value,
}


def to_condition(filters: dict[str, Any], depth: int = 0) -> Filter:
    """Return the condition that `filters` says.

    Beside attributes, `filename`, `file_id`, `page` and `index` can be compared.
    Raises `BadRequest` for anything that is no filter.
    """
    kind = filters.get("type")
    if depth > _MAX_DEPTH:
        raise BadRequest(f"filters are nested deeper than {_MAX_DEPTH} levels.", param="filters")
    if kind in ("and", "or"):
        parts = filters.get("filters")
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            raise BadRequest(f'A filter of type "{kind}" needs a list of filters under "filters".', param="filters")
        conditions = [to_condition(part, depth + 1) for part in parts]
        return conditions[0] if len(conditions) == 1 else {f"${kind}": conditions}
    if kind in _COMPARISONS:
        return _comparison(str(kind), filters.get("key"), filters.get("value"))
    allowed = ", ".join(sorted(_COMPARISONS))
    raise BadRequest(f'A filter\'s "type" must be and, or, {allowed}; it is {kind!r}.', param="filters")


def _comparison(kind: str, key: object, value: object) -> Filter:
    if not isinstance(key, str) or not key:
        raise BadRequest('A comparison needs the name of an attribute under "key".', param="filters")
    scalars = value if isinstance(value, list) else [value]
    if isinstance(value, list) != (kind in ("in", "nin")) or not scalars:
        raise BadRequest(
            f'"{kind}" on {key}: give {"a list" if kind in ("in", "nin") else "one value"}.', param="filters"
        )
    if not all(isinstance(scalar, str | int | float) for scalar in scalars):
        raise BadRequest(f'"{kind}" on {key}: values are text, numbers, true or false.', param="filters")
    if kind in _ORDERINGS and isinstance(value, str | bool):
        raise BadRequest(f'"{kind}" on {key} compares numbers.', param="filters")
    return {key if key in FILTERABLE else attribute_key(key): {f"${kind}": value}}


def holds(where: Filter, facts: Mapping[str, Any]) -> bool:
    """Say whether `facts` of a chunk meet the condition.

    A fact that is not there, or is of another kind than the value, is unlike every value.
    """
    for key, condition in where.items():
        if key in ("$and", "$or"):
            met = all if key == "$and" else any
            if not met(holds(part, facts) for part in condition):
                return False
        elif not all(_meets(name, facts.get(key), value) for name, value in condition.items()):
            return False
    return True


def keys_of(where: Filter) -> set[str]:
    """Return the names of the facts that a condition looks at."""
    keys: set[str] = set()
    for key, condition in where.items():
        keys |= set().union(*map(keys_of, condition)) if key in ("$and", "$or") else {key}
    return keys


def _meets(name: str, has: object, value: object) -> bool:
    if name in ("$in", "$nin"):
        alike: Any = [one for one in value if _kind(one) == _kind(has)] if isinstance(value, list) else []
        return _TESTS[name](has, alike)
    if _kind(has) != _kind(value):
        return name == "$ne"
    return _TESTS[name](has, value)


def _kind(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value).__name__
    return "number"
