"""Start the rag-service: `python -m tunesmith_rag`."""

import gc

gc.disable()  # what is imported stays for ever: collecting among it costs a fifth of the start; serve() turns it on

from tunesmith_rag.app import create_app
from tunesmith_rag.settings import RagSettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(RagSettings)
    serve(create_app(settings), settings.rag_host, settings.rag_port)
