"""Neighbouring chunks of one page, found together, become one passage, without the words of their overlap twice."""

from collections.abc import Sequence
from dataclasses import replace

from tunesmith_rag.ranking import Result

_LEAST_OVERLAP = 8
"""Characters; shorter ends that are alike are chance, not the splitter's overlap."""


def merged(results: Sequence[Result]) -> list[Result]:
    """Return `results` with neighbours joined; a passage stands where its best chunk stood, with its scores."""
    passages: list[list[Result]] = []
    for result in results:
        near = [passage for passage in passages if any(_adjoin(result, other) for other in passage)]
        if not near:
            passages.append([result])
            continue
        near[0].append(result)
        for passage in near[1:]:  # it closed a gap between two
            near[0].extend(passage)
            passages.remove(passage)
    return [_joined(passage) for passage in passages]


def _adjoin(one: Result, other: Result) -> bool:
    first, second = one.chunk, other.chunk
    same = (first.document_id, first.page) == (second.document_id, second.page)
    return same and abs(first.index - second.index) == 1


def _joined(passage: list[Result]) -> Result:
    parts = sorted(passage, key=lambda result: result.chunk.index)
    text = parts[0].chunk.text
    for part in parts[1:]:
        text = join_texts(text, part.chunk.text)
    best = passage[0]
    score = max(result.score for result in passage)
    return replace(best, chunk=replace(parts[0].chunk, text=text), score=score, chunks=len(parts))


def join_texts(first: str, second: str) -> str:
    """Return `first` and `second` as one text; words that end the one and begin the other are there once."""
    for length in range(min(len(first), len(second)), _LEAST_OVERLAP - 1, -1):
        if first.endswith(second[:length]):
            return first + second[length:]
    return f"{first}\n{second}"
