#!/usr/bin/env bash
# One would guess: TCPStore.set of torch.distributed raises when the rank that holds the store has left, as get, add and wait do.
# Seen: the first set returns as if the value were kept. Nothing is answered to a set, so it is written into a connection
# whose other end is closed, and only the next call tells. A rank that reports "ready" or its result by set, as its last
# word, goes on or ends well although nobody will ever read it; a call that is answered (add, get) is what tells.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 TORCH_CPP_LOG_LEVEL=FATAL "$folder/env/bin/python" - <<'PY'
import multiprocessing
import socket
from datetime import timedelta

import torch
from torch.distributed import TCPStore

WAIT = timedelta(seconds=10)


def hold(port, joined, leave):
    store = TCPStore("127.0.0.1", port, world_size=2, is_master=True, timeout=WAIT, wait_for_workers=False)
    joined.set()
    leave.wait()
    del store


def tried(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}"
    return "no error"


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    joined, leave = fork.Event(), fork.Event()
    holder = fork.Process(target=hold, args=(port, joined, leave))
    holder.start()
    joined.wait()
    store = TCPStore("127.0.0.1", port, world_size=2, is_master=False, timeout=WAIT, wait_for_workers=False)
    store.set("before", "1")
    kept = store.get("before")
    leave.set()
    holder.join()
    first, counted = tried(lambda: store.set("result", "1")), tried(lambda: store.add("ready", 1))
    print(f"torch {torch.__version__}: kept {kept!r} while rank 0 was there")
    print(f"after it left: set: {first}; then add: {counted}")
    assert (kept, first) == (b"1", "no error") and counted != "no error", "this has changed"
PY
