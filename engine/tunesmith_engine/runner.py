"""The child process of one loaded model: llama.cpp's own HTTP server on a Unix socket.

Started as ``python -m tunesmith_engine.runner <socket> <specification>``. It prints one line when
the model is loaded, and lives until its standard input ends, which also happens when its parent is
killed. Requests are batched by llama.cpp's threads; Python sleeps here. What is set here, `llama_server.py` says to a
llama-server.
"""

import os
import sys

import xllamacpp  # type: ignore[import-untyped]

from tunesmith_engine.parent import die_with
from tunesmith_engine.specification import ALIAS, ERRORS_ONLY, READY, Specification


def server_parameters(socket: str, specification: Specification) -> xllamacpp.CommonParams:
    """llama.cpp's parameters for a specification."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = specification.model_path
    parameters.hostnames = [socket]
    parameters.n_parallel = specification.parallel
    parameters.n_ctx = specification.whole_context
    parameters.cpuparams.n_threads = specification.num_thread
    parameters.cpuparams_batch.n_threads = specification.num_thread
    parameters.ctx_shift = specification.shifts
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in specification.adapter_paths]
    parameters.model_alias = {ALIAS}
    parameters.verbosity = ERRORS_ONLY
    parameters.fit_params = False
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.n_gpu_layers = specification.gpu_layers
    parameters.n_threads_http = specification.http_threads
    parameters.n_batch = parameters.n_ubatch = specification.batch_tokens
    parameters.embedding = specification.embedding
    return parameters


def main(socket: str, specification: str) -> None:
    """Load the model, say so, and serve until the parent goes."""
    die_with(os.getppid())
    server = xllamacpp.Server(server_parameters(socket, Specification.decode(specification)))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read()
    del server  # its destructor waits for running requests, and nobody is left to read them
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
