"""Start the finetune-worker: `python -m tunesmith_finetune`."""

import gc

gc.disable()  # what is imported stays for ever: collecting among it costs a fifth of the start; serve() turns it on

from tunesmith_finetune.app import create_app
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(WorkerSettings)
    serve(create_app(settings), settings.worker_host, settings.worker_port)
