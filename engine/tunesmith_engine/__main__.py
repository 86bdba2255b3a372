"""Start the engine: `python -m tunesmith_engine`."""

import gc

gc.disable()  # what is imported stays for ever: collecting among it costs a fifth of the start; serve() turns it on

from tunesmith_engine.app import create_app
from tunesmith_engine.settings import EngineSettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(EngineSettings)
    serve(create_app(settings), settings.engine_host, settings.engine_port)
