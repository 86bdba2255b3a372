"""A running rag-service behind the real engine, spoken to as the gateway speaks to it."""

from collections.abc import Iterator

import httpx
import pytest

from tunesmith_rag.testing import Rag, rag_at
from tunesmith_shared.testing import Platform


@pytest.fixture(scope="session")
def rag(engine_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rag]:
    """One service for all tests that do not kill it."""
    with rag_at(tmp_path_factory.mktemp("rag"), engine_platform) as rag:
        yield rag


@pytest.fixture
def client(rag: Rag) -> Iterator[httpx.Client]:
    with rag.client() as client:
        yield client


@pytest.fixture
def store(client: httpx.Client) -> Iterator[str]:
    """A vector store of its own for each test."""
    made: str = client.post("/v1/vector_stores", json={"name": "test"}).json()["id"]
    yield made
    client.delete(f"/v1/vector_stores/{made}")
