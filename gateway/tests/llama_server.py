"""llama.cpp's own HTTP server: `llama_server.py <gguf> <port> <key>`; it ends when its standard input does."""

import os
import sys

import xllamacpp  # type: ignore[import-untyped]

ALIAS = "team/SmolLM2-135M"


def main(gguf: str, port: str, key: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.model_alias = {ALIAS}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(port)
    parameters.api_keys = [key]
    parameters.n_parallel = 2
    parameters.n_ctx = 2 * 2048
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_batch = parameters.n_ubatch = 128
    parameters.fit_params = False
    parameters.ui = False
    parameters.cache_ram_mib = 0
    server = xllamacpp.Server(parameters)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    del server
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
