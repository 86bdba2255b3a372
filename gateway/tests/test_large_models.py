"""Which models count as large, as their servers tell it, and what these are told beside excerpts."""

import aiohttp
import pytest

from tunesmith_gateway.backends import ollama
from tunesmith_gateway.backends.protocol import LARGE
from tunesmith_gateway.backends.route import Route
from tunesmith_gateway.prompts import ANSWER_OR_SAY, grounded
from tunesmith_gateway.settings import BackendRow
from tunesmith_gateway.upstream import Timeouts
from tunesmith_shared.testing import Platform, free_port


async def test_the_size_is_what_the_server_counts(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        BackendRow(name="gone", url=f"http://127.0.0.1:{free_port()}"),
        BackendRow(name="engine", url=platform.services["engine"].url),
    ]
    async with aiohttp.ClientSession() as session:
        backends = [ollama.OllamaBackend(row, session, Timeouts(5, 60, 60), "") for row in rows]
        assert await Route("smollm2:135m", backends).large() is False
        assert await Route("smollm2:135m", []).large() is False
        monkeypatch.setattr(ollama, "LARGE", 134_000_000)
        models = ("smollm2:135m", "all-minilm", "nosuch")
        assert [await Route(model, backends).large() for model in models] == [True, False, False]
    assert 1_000_000_000 < LARGE < 7_000_000_000


def test_a_large_model_may_say_that_the_text_does_not_answer() -> None:
    assert grounded("When?", [], ANSWER_OR_SAY).endswith("does not answer it.\n\nWhen?")
    assert "say that" not in grounded("When?", [])
