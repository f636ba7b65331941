"""A page for whoever watches over the daemon: `/healthz` and Prometheus' `/metrics`.

Healthy means that the loop made a round not long ago; a step that fails is not ill health, it is
counted. Everything is read from the database at the time of asking.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bot.loop import Loop
from db import report

STALE = timedelta(minutes=2)  # a round is due every 20 seconds at the latest


class Figures(Collector):
    """What the database says, as gauges."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def collect(self) -> Iterable[Metric]:
        status = report.status(self.loop.store.engine, self.loop.world.now())
        candidates = GaugeMetricFamily(
            "stockpot_candidates", "Candidates by state.", labels=["base", "state"]
        )
        for base in status.bases:
            for state, count in base.states.items():
                candidates.add_metric([base.repo, state], count)
        yield candidates
        yield GaugeMetricFamily("stockpot_steps_running", "Now.", value=len(status.running))
        parked = sum(trouble.state == "parked" for trouble in status.troubles)
        yield GaugeMetricFamily("stockpot_steps_parked", "Need a person.", value=parked)
        yield GaugeMetricFamily("stockpot_paused", "Switches set.", value=len(status.paused))


@contextmanager
def health_page(loop: Loop, port: int | None) -> Iterator[None]:
    """Serve the page on `port` of every interface while the block runs; None serves nothing."""
    if port is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(Figures(loop))
    server = ThreadingHTTPServer(("", port), _handler(loop, registry))
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _handler(loop: Loop, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                alive = loop.world.now() - loop.last_round < STALE
                self._answer(200 if alive else 503, b"ok\n" if alive else b"the loop hangs\n")
            elif self.path == "/metrics":
                self._answer(200, generate_latest(registry))
            else:
                self._answer(404, b"/healthz or /metrics\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return  # a probe every few seconds is not news

    return Handler
