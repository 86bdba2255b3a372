"""Which terms of a question stand in which texts, and how rare they are: what BM25 sees, taken apart.

Terms are those of the full-text index (`lexical.py`): lower case, without accents, stemmed by Porter's rules. English
function words are left out, because how often they stand in a text says nothing about what it answers.
"""

import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

TOKENIZER = "porter unicode61 remove_diacritics 2"
"""FTS5's tokenizer of the full-text index and of everything that is compared with it."""

_WORDS = """
a about after am an and any are as at be been before being but by can could did do does down for from get gets
had has have he her his how i if in into is it its many may me might much must my no not of off on one or our
out over should so some such than that the their them then there these they this those to under up us was we
were what when where which who whom whose why will with would you your
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
"""English words that say how a question is put, not what it is about."""
_OPTIONS = f"tokenize = '{TOKENIZER}', content = '', detail = none, columnsize = 0"
_SCRATCH = (
    f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.texts USING fts5 (text, {_OPTIONS})",
    "CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab (temp, texts, instance)",
)
"""Tables in which texts are taken apart. A connection keeps its own: to make them takes longer than to use them."""


@dataclass(frozen=True)
class SharedTerms:
    """For each question the weights of its terms (inverse document frequency), the share of this weight that stands
    anywhere in the store, and whether all its terms with figures (codes, part numbers, years) do; for each text its
    terms.
    """

    weights: list[dict[str, float]]
    known: list[float]
    identified: list[bool]
    texts: list[set[str]]

    def coverage(self, text: int) -> float:
        """Return the share of a question's weight that stands in this text, from 0 to 1; of the best question."""
        return max(self.coverages(text), default=0.0)

    def coverages(self, text: int) -> list[float]:
        """Return for each question the share of its weight that stands in this text, from 0 to 1."""
        return [_share(weights, self.texts[text]) for weights in self.weights]


def shared_terms(store: sqlite3.Connection, questions: Sequence[str], texts: Sequence[str]) -> SharedTerms:
    """Compare `questions` with `texts`, rarity as in the full-text index that `store` is connected to."""
    # Left out as words, not as terms: "herrings" and "her" have the same stem.
    found = terms_of(store, [*(" ".join(telling_words(question)) for question in questions), *texts])
    _open_vocabulary(store)
    (size,) = store.execute("SELECT coalesce(max(number), 0) FROM chunks").fetchone()
    weights, known, identified = [], [], []
    for terms in found[: len(questions)]:
        frequencies = {term: _frequency(store, term) for term in terms}
        weights.append({term: _rarity(size, frequency) for term, frequency in frequencies.items()})
        known.append(_share(weights[-1], {term for term, frequency in frequencies.items() if frequency}))
        identified.append(all(frequency for term, frequency in frequencies.items() if _has_figure(term)))
    return SharedTerms(weights, known, identified, found[len(questions) :])


def frequencies(store: sqlite3.Connection, words: Sequence[str]) -> dict[str, int]:
    """Return in how many texts of the full-text index each word stands, at the most."""
    _open_vocabulary(store)
    found = zip(words, terms_of(store, words), strict=True)
    return {word: min((_frequency(store, term) for term in terms), default=0) for word, terms in found}


def telling_words(text: str) -> list[str]:
    """Return the words of `text` that are no function words, each once, in lower case."""
    return [word for word in words_of(text) if word not in FUNCTION_WORDS]


def words_of(text: str) -> list[str]:
    """Return the words of `text`, each once, in lower case."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", text.casefold())))


def terms_of(connection: sqlite3.Connection, texts: Sequence[str]) -> list[set[str]]:
    """Return the terms of each text. `connection` is to any database, in autocommit mode; nothing is written there."""
    found: list[set[str]] = [set() for _ in texts]
    for statement in _SCRATCH:
        connection.execute(statement)
    connection.execute("BEGIN")
    try:
        connection.executemany("INSERT INTO temp.texts (rowid, text) VALUES (?, ?)", enumerate(texts))
        for term, row in connection.execute("SELECT term, doc FROM temp.terms"):
            found[row].add(term)
    finally:
        connection.execute("ROLLBACK")
    return found


def _has_figure(term: str) -> bool:
    return any(character.isdigit() for character in term)


def _open_vocabulary(store: sqlite3.Connection) -> None:
    store.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab (main, words, row)")


def _frequency(store: sqlite3.Connection, term: str) -> int:
    row = store.execute("SELECT doc FROM temp.vocabulary WHERE term = ?", (term,)).fetchone()
    return int(row[0]) if row else 0


def _rarity(size: int, frequency: int) -> float:
    """Return BM25's inverse document frequency in the form that is never negative."""
    return math.log(1 + (max(size, frequency) - frequency + 0.5) / (frequency + 0.5))


def _share(weights: dict[str, float], terms: set[str]) -> float:
    whole = sum(weights.values())
    return sum(weight for term, weight in weights.items() if term in terms) / whole if whole else 0.0
