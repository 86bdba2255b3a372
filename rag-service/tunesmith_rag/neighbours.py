"""How the index finds nearest neighbours: what its graph costs, and what it finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Graph:
    """The graph that finds nearest neighbours (HNSW; Malkov and Yashunin 2016, arXiv:1603.09320): links of a vector
    (M), candidates while it is built (efConstruction) and while it is searched (efSearch). More find more and take
    longer; `benchmarks/documents/index.py` shows what these find. A collection keeps those it was made with.
    """

    links: int = 32
    build: int = 100
    search: int = 200


USUAL = Graph()
