"""What to search documents for when a question leans on the one before it: "And in the capital?".

Having a model write a question that stands alone costs a call before each search. Searching for the question before
and this one together, and for this one by itself, costs none, and finds the page nearly as well as a question that
stands alone (`benchmarks/documents/quality/README.md`). Only questions that look like it are searched so, because the
question before is a burden to one that has nothing to do with it.
"""

import re

_LEANS = re.compile(
    r"^\W*(and|but|or|what about|how about)\b|"
    r"\b(it|its|they|them|their|he|she|him|his|her|that|those|these|this|one|ones)\b",
    re.IGNORECASE,
)
_LONGEST = 300
"""Characters of the question before that are searched for, its last ones: an embedding model takes short questions."""


def searched_for(question: str, before: str | None) -> list[str]:
    """Return the questions to search for; `before` is what the user said before `question`, if anything."""
    if not before or not _LEANS.search(question):
        return [question]
    return [f"{_end(before)} {question}", question]


def _end(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[-_LONGEST:].partition(" ")[2]
