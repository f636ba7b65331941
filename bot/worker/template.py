"""The template: load what jobs need, then fork once per job; see `bot.spawn`.

Descriptor 0 is a socket to the daemon. It sends ``{"HOME": ..., "TMPDIR": ...}`` with three
descriptors for the fork's standard streams, answered by ``{"pid": ...}``; and ``{"reap": pid}`` for
a fork that has ended, answered by ``{"status": ...}``. At the end of the socket the template ends.
"""

import gc
import importlib
import json
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence

from bot.worker.jobs import JOBS
from bot.worker.sandbox import set_dumpable

MODULES = (
    *(f"bot.worker.{task}" for task in JOBS),
    "transformers.models.llama.modeling_llama",  # loaded late by transformers itself
)


def fork_forever(modules: Sequence[str] = MODULES) -> int:
    """Returns in forks alone, ready to serve a job; the value is the template's process id."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that collections in the forks leave the shared pages alone
    set_dumpable(False)
    template, link = os.getpid(), socket.socket(fileno=0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(link, 65536, 3)
        if not message:
            raise SystemExit(0)
        order = json.loads(message)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        elif pid := os.fork():
            answer = {"pid": pid}
        else:
            link.detach()
            _become(order, descriptors)
            return template
        for descriptor in descriptors:
            os.close(descriptor)
        link.send(json.dumps(answer).encode())


def _become(homes: Mapping[str, str], streams: Sequence[int]) -> None:
    """A fork with its own session, streams and home."""
    os.setsid()
    set_dumpable(True)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.update(homes)
    os.chdir(homes["HOME"])
    tempfile.tempdir = None  # it remembers the template's
