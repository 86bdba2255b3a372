"""Start the gateway: `python -m tunesmith_gateway`."""

from tunesmith_gateway.app import create_app
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_shared.app import serve
from tunesmith_shared.settings import load_settings

settings = load_settings(GatewaySettings)
serve(create_app(settings), settings.host, settings.port)
