"""Start the engine: ``python -m tunesmith_engine``."""

from tunesmith_engine.app import create_app
from tunesmith_engine.settings import EngineSettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load_settings(EngineSettings)
    serve(create_app(settings), settings.engine_host, settings.engine_port)


if __name__ == "__main__":
    main()
