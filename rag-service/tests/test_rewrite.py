"""Versions of a question: read from what a small model writes, and never the reason that a search fails."""

from tunesmith_rag.rewrite import Rewriter, read_versions
from tunesmith_shared.testing import Platform, free_port

QUESTION = "How often is the rain gauge calibrated?"


def test_versions_lose_numbering_quotes_and_repetition() -> None:
    written = '1. When is it calibrated?\n- "How frequently is it checked?"\n\n2) when is it calibrated?\n* ok\n'
    assert read_versions(written, QUESTION) == ["When is it calibrated?", "How frequently is it checked?"]


def test_the_question_itself_and_essays_are_no_versions() -> None:
    assert read_versions(f"{QUESTION.upper()}\n{'very ' * 100}long", QUESTION) == []


async def test_a_model_writes_versions(engine_platform: Platform) -> None:
    rewriter = Rewriter(engine_platform.services["engine"].url, count=3, seconds=60)
    versions = await rewriter.versions(QUESTION, "smollm2:135m")
    await rewriter.close()
    assert versions.note is None
    assert 1 <= len(versions.questions) <= 3


async def test_too_little_time_and_unknown_models_are_notes(engine_platform: Platform) -> None:
    rewriter = Rewriter(engine_platform.services["engine"].url, count=3, seconds=0.01)
    hasty = await rewriter.versions(QUESTION, "smollm2:135m")
    await rewriter.close()
    rewriter = Rewriter(engine_platform.services["engine"].url, count=3, seconds=60)
    unknown = await rewriter.versions(QUESTION, "no-such-model")
    await rewriter.close()
    assert hasty.questions == unknown.questions == []
    assert "took longer than 0.01 s" in str(hasty.note)
    assert "no-such-model could not rewrite it" in str(unknown.note)


async def test_a_server_that_is_away_is_a_note() -> None:
    rewriter = Rewriter(f"http://127.0.0.1:{free_port()}", count=3, seconds=5)
    versions = await rewriter.versions(QUESTION, "smollm2:135m")
    await rewriter.close()
    assert "could not rewrite it" in str(versions.note)
