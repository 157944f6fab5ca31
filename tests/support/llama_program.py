"""llama.cpp's program as far as we call it, made of the wheel's library.

It takes the words that we say to `llama-server`, and says what we read of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

WORDS = (
    *("--model", "--alias", "--host", "--port", "--ctx-size", "--parallel", "--threads"),
    *("--sleep-idle-seconds", "--cache-ram", "--n-gpu-layers"),
)
FLAGS = ("--offline", "--no-webui", "--no-slots", "--embeddings")


def main() -> None:
    """Serve until somebody ends us."""
    import xllamacpp

    parser = argparse.ArgumentParser()
    for word in WORDS:
        parser.add_argument(word)
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.model_alias = {given.alias}
    params.hostnames, params.port = [given.host], int(given.port)
    params.n_ctx, params.n_parallel = int(given.ctx_size), int(given.parallel)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(given.threads)
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        print("error: failed to load model", file=sys.stderr)
        sys.exit(1)
    print(f"main: server is listening on {server.listening_address}", file=sys.stderr, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
