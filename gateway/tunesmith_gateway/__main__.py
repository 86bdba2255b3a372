"""Start the gateway: `python -m tunesmith_gateway`."""

import gc

gc.disable()  # what is imported stays for ever: collecting among it costs a fifth of the start; serve() turns it on
gc.set_threshold(
    20_000
)  # a request's objects go by themselves: looking among them for cycles takes a tenth of its time

from tunesmith_gateway.app import create_app
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings

if __name__ == "__main__":
    settings = load_settings(GatewaySettings)
    serve(create_app(settings), settings.host, settings.port)
