"""Self-consistency: which of several answers to one prompt agrees most with the others.

The medoid under ROUGE-L answers. ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/) is the F1 of the longest
common subsequence of two texts' words; the choice of the sample most similar to the others follows Jain et al. 2023
(https://arxiv.org/abs/2307.06857). Everything here is a function of the texts alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import fsum
from typing import Annotated, Literal

from pydantic import Field
from rapidfuzz.distance import LCSseq

from tunesmith_shared.schemas.base import Body

# A word, or one character of a script that puts no spaces between words.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


class SelfConsistency(Body):
    """The `self_consistency` field of a request: how many samples, and how alike two of them are."""

    samples: Annotated[int, Field(ge=1, le=16)] = 5
    method: Literal["rouge_l"] = "rouge_l"


@dataclass(frozen=True)
class Candidate:
    """One sample. `score` is its mean ROUGE-L F1 to the other samples, from 0 to 1; 1 when it is the only one."""

    content: str
    score: float


def words(text: str) -> list[str]:
    """Return the words that are compared: letters and digits, without regard to case and punctuation."""
    return _WORD.findall(text.casefold())


def rouge_l(one: Sequence[object], other: Sequence[object]) -> float:
    """Return the ROUGE-L F1 of two texts' words, from 0 to 1. Two texts without words are alike."""
    if not one and not other:
        return 1.0
    return 2 * LCSseq.similarity(one, other) / (len(one) + len(other))


def rank(texts: Sequence[str]) -> list[Candidate]:
    """Score each text by its mean similarity to the others, in the order given."""
    numbers: dict[str, int] = {}  # the library compares hashes; numbers of our own cannot collide
    tokens = [[numbers.setdefault(word, len(numbers)) for word in words(text)] for text in texts]
    alike: list[list[float]] = [[] for _ in texts]
    for first, second in combinations(range(len(texts)), 2):
        similarity = rouge_l(tokens[first], tokens[second])
        alike[first].append(similarity)
        alike[second].append(similarity)
    # fsum does not depend on the order, so equal texts have equal scores to the last bit
    return [
        Candidate(text, fsum(others) / len(others) if others else 1.0)
        for text, others in zip(texts, alike, strict=True)
    ]


def medoid(candidates: Sequence[Candidate]) -> int:
    """Return the index of the candidate with the best score, the first of those that share it."""
    return max(range(len(candidates)), key=lambda index: candidates[index].score)
