"""The child process of one loaded model: llama.cpp's own HTTP server on a Unix socket.

Started as ``python -m tunesmith_engine.runner <socket> <specification>``. It prints one line when
the model is loaded, and lives until its standard input ends, which also happens when its parent is
killed. Requests are batched by llama.cpp's threads; Python sleeps here.
"""

import contextlib
import ctypes
import os
import signal
import sys

import xllamacpp  # type: ignore[import-untyped]

from tunesmith_engine.specification import ALIAS, READY, Specification

_PR_SET_PDEATHSIG = 1
_EMBEDDING_BATCH_TOKENS = 2048
_ERRORS_ONLY = 1


def _die_with_parent() -> None:
    """Let Linux kill this process when its parent dies; loading holds the interpreter, so nothing else could notice."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def server_parameters(socket: str, specification: Specification) -> xllamacpp.CommonParams:
    """llama.cpp's parameters for a specification."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = specification.model_path
    parameters.hostnames = [socket]
    parameters.n_parallel = specification.parallel
    parameters.n_ctx = specification.num_ctx * specification.parallel
    parameters.cpuparams.n_threads = specification.num_thread
    parameters.cpuparams_batch.n_threads = specification.num_thread
    parameters.ctx_shift = specification.shift and not specification.embedding
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in specification.adapter_paths]
    parameters.model_alias = {ALIAS}
    parameters.verbosity = _ERRORS_ONLY
    parameters.fit_params = False
    parameters.ui = False
    parameters.cache_ram_mib = 0
    # Every streaming request holds a thread of the HTTP server; more than the slots may wait.
    parameters.n_threads_http = max(16, specification.parallel * 4)
    parameters.n_batch = parameters.n_ubatch = specification.batch
    if specification.embedding:  # a text must fit into one batch, and several short ones share it
        parameters.embedding = True
        parameters.n_batch = parameters.n_ubatch = max(_EMBEDDING_BATCH_TOKENS, specification.num_ctx)
    return parameters


def main(socket: str, specification: str) -> None:
    """Load the model, say so, and serve until the parent goes."""
    _die_with_parent()
    server = xllamacpp.Server(server_parameters(socket, Specification.decode(specification)))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read()
    del server  # its destructor waits for running requests, and nobody is left to read them
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
