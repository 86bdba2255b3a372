"""The platform under test: started here on free ports, or the running one that TUNESMITH_URL names."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tunesmith_shared.testing import platform_at, wait_for_models


@dataclass(frozen=True)
class Address:
    """Where the gateway answers, and an administrator's key."""

    url: str
    key: str


@pytest.fixture(scope="session")
def tunesmith(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    if url := os.environ.get("TUNESMITH_URL"):
        yield Address(url, os.environ["TUNESMITH_API_KEY"])
        return
    with platform_at(tmp_path_factory.mktemp("platform")) as platform:
        platform.start("engine", "rag", "worker", "gateway")
        wait_for_models(platform.services["engine"].url)
        yield Address(platform.url, platform.key)
