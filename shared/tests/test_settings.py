from pathlib import Path

import pytest

from tunesmith_shared.settings import ServiceSettings, async_database_url, load_settings


@pytest.fixture(autouse=True)
def _only_these_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "OLLAMA_HOST", "TUNESMITH_DATABASE_URL", "TUNESMITH_OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config.yaml"))


def test_everything_follows_from_the_data_directory_and_the_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUNESMITH_ENGINE_PORT", "12000")
    settings = load_settings(ServiceSettings)
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/data/tunesmith.db"
    assert settings.models_path == tmp_path / "data" / "models"
    assert settings.ollama_host == "http://127.0.0.1:12000"
    assert settings.rag_url == "http://127.0.0.1:8001"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("port: 9000\nrag_port: 9001\n")
    monkeypatch.setenv("TUNESMITH_PORT", "9100")
    settings = load_settings(ServiceSettings)
    assert (settings.port, settings.rag_port) == (9100, 9001)


def test_all_mistakes_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_PORT", "no number")
    monkeypatch.setenv("TUNESMITH_LOG_LEVEL", "loud")
    with pytest.raises(SystemExit) as raised:
        load_settings(ServiceSettings)
    assert "port" in str(raised.value)
    assert "log_level" in str(raised.value)


def test_other_tools_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box:11434")
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@db/tunesmith")
    settings = load_settings(ServiceSettings)
    assert settings.ollama_host == "http://gpu-box:11434"
    assert settings.database_url == "postgresql+psycopg://u:p@db/tunesmith"


def test_the_service_token_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first, second = load_settings(ServiceSettings), load_settings(ServiceSettings)
    assert first.service_token == second.service_token
    assert len(first.service_token.get_secret_value()) > 30
    assert (tmp_path / "data" / "secrets" / "service_token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("sqlite:////a.db", "sqlite+aiosqlite:////a.db"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
    ],
)
def test_a_database_url_gets_the_asynchronous_driver(given: str, wanted: str) -> None:
    assert async_database_url(given) == wanted
