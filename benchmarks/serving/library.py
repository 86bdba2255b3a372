"""The HTTP server inside the engine's own library, without an engine: `python -m benchmarks.serving.library`.

Tells what the platform costs apart from what another build of llama.cpp costs.
"""

import sys

import xllamacpp  # type: ignore[import-untyped]

from tunesmith_engine.runner import server_parameters
from tunesmith_engine.specification import Specification

if __name__ == "__main__":
    parameters = server_parameters("127.0.0.1", Specification.decode(sys.argv[1]))
    parameters.port = int(sys.argv[2])
    server = xllamacpp.Server(parameters)
    print("ready", flush=True)
    sys.stdin.read()
