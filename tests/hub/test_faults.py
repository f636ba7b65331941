"""What the Hub can do to us while we read, one fault at a time."""

import resource
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import Broken, Forbidden, Gone, LeaseLost, Rejected, Transient
from bot.hub import FileFact, Hub
from bot.hub.wire import seconds_to_wait
from bot.localhub import Fault
from bot.reasons import Reason

from .conftest import BASE, door, push, safetensors

INFO = r"GET /api/models/tiny/one(\?|$)"
FILE = r"GET /tiny/one/resolve/"


@pytest.fixture
def repo(server):
    return push(server, "tiny/one", {"config.json": "{}", "data.json": b"x" * 10_000})


def test_a_rate_limit_is_obeyed_by_the_whole_door(server, hub, repo):
    server.inject(Fault(INFO, "status", status=429, headers={"RateLimit": '"api";r=0;t=300'}))

    with pytest.raises(Transient) as told:
        hub.info("tiny/one")
    assert told.value.retry_after == 300

    server.forget_requests()
    for call in (lambda: hub.head("tiny/one"), lambda: list(hub.finetunes(BASE))):
        with pytest.raises(Transient) as told:
            call()
        assert 290 < told.value.retry_after <= 300
    assert server.requests == ()
    assert hub.read_bytes("tiny/one", repo, "config.json", 10) == b"{}"  # counted apart


def test_the_last_allowed_request_closes_the_gate_too(server, hub, repo):
    server.inject(
        Fault(INFO, "status", status=404, headers={"RateLimit": '"api";r=0;t=60'}),
    )
    with pytest.raises(Gone):
        hub.info("tiny/one")
    with pytest.raises(Transient):
        hub.info("tiny/one")


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_passed_on_and_never_slept(server, hub, repo, status):
    server.inject(Fault(LISTING, "status", 9, status=status, headers={"Retry-After": "120"}))

    begun = time.monotonic()
    with pytest.raises(Transient) as told:
        list(hub.finetunes(BASE))
    assert told.value.retry_after == 120
    assert time.monotonic() - begun < 5


LISTING = r"GET /api/models\?"


def test_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < seconds_to_wait(503, {"retry-after": soon}) <= 90
    assert seconds_to_wait(503, {"retry-after": "nonsense"}) is None
    assert seconds_to_wait(200, {"retry-after": "5"}) is None


FAR_AWAY = "9" * 20


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": FAR_AWAY},
        {"Retry-After": "9" * 400},  # more than a float holds
        {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"},
        {"RateLimit": f'"api";r=0;t={FAR_AWAY}'},
        {"RateLimit": f'"api";r=0;t={"9" * 400}'},
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_nobody_is_waited_for_longer_than_a_quarter_of_a_day(server, hub, repo, headers, status):
    server.inject(Fault(INFO, "status", status=status, headers=headers))
    with pytest.raises(Transient) as told:
        hub.info("tiny/one")
    assert told.value.retry_after in (None, 6 * 3600)
    with suppress(Transient):
        hub.head("tiny/one")


DATES = ["Fri,", "31", "Dec", "9999", "0001", "23:59:59", "-2359", "GMT", "²", "-", "9" * 5000]


@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(DATES), max_size=8).map(" ".join)),
    st.sampled_from([200, 429, 503]),
)
def test_no_header_is_more_than_a_wait(text, status):
    for name in ("retry-after", "ratelimit"):
        for value in (text, f'"api";r=0;t={text}'):
            wait = seconds_to_wait(status, {name: value})
            assert wait is None or 0 <= wait <= 6 * 3600


def test_a_short_burst_of_errors_is_waited_out(server, hub, repo):
    server.inject(Fault(INFO, "status", 2, status=502))
    assert hub.info("tiny/one").sha == repo


def test_a_long_burst_is_transient_after_three_requests(server, hub, repo):
    server.inject(Fault(INFO, "status", 99, status=500))
    server.forget_requests()

    with pytest.raises(Transient):
        hub.info("tiny/one")
    assert len(server.requests) == 3


def test_a_server_that_never_answers_costs_one_timeout(server, tmp_path, repo):
    impatient = door(server, tmp_path, timeout=0.3)
    for match in (INFO, LISTING, FILE):
        server.inject(Fault(match, "hang"))

    begun = time.monotonic()
    for call in (
        lambda: impatient.info("tiny/one"),
        lambda: list(impatient.finetunes(BASE)),
        lambda: impatient.read_bytes("tiny/one", repo, "config.json", 10),
    ):
        with pytest.raises(Transient):
            call()
    assert time.monotonic() - begun < 5


def test_a_server_that_drips_is_cut_off(tmp_path):
    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            try:
                for _ in range(200):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Dripping) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        hub = Hub(f"http://127.0.0.1:{server.server_port}", None, tmp_path, timeout=0.1, pause=0)
        begun = time.monotonic()
        with pytest.raises(Transient):
            hub.info("tiny/one")
        with pytest.raises(Transient):
            hub.read_bytes("tiny/one", "0" * 40, "config.json", 2_000_000)
        server.shutdown()
        thread.join()
    assert time.monotonic() - begun < 5


def test_nobody_listens(tmp_path):
    hub = Hub("http://127.0.0.1:9", "hf_x", tmp_path, pause=0, timeout=1)
    for call in (
        lambda: hub.info("tiny/one"),
        lambda: list(hub.finetunes(BASE)),
        lambda: hub.fetch("tiny/one", "0" * 40, [FileFact("a", 1)], tmp_path / "a"),
        hub.whoami,
        lambda: hub.set_private("tiny/one", True, fence=lambda: None),
    ):
        with pytest.raises(Transient):
            call()


def test_an_answer_that_is_not_json(tmp_path):
    class Html(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<html>maintenance</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Html) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        hub = Hub(f"http://127.0.0.1:{server.server_port}", None, tmp_path, pause=0)
        with pytest.raises(Transient):
            hub.info("tiny/one")
        with pytest.raises(Transient):
            list(hub.finetunes(BASE))
        server.shutdown()
        thread.join()


def test_a_revoked_token_is_forbidden_at_once(server, hub, repo):
    assert hub.whoami().name == "bot"
    server.revoke("bot")
    server.forget_requests()

    with pytest.raises(Forbidden):
        hub.info("tiny/one")
    assert len(server.requests) == 1


def test_a_repository_that_is_closed_to_us_says_nothing_about_our_token(server, hub, repo):
    server.inject(Fault(INFO, "status", status=403))
    with pytest.raises(Rejected) as refused:
        hub.info("tiny/one")
    assert refused.value.code is Reason.GATED


def test_truncated_answers_are_transient(server, hub, repo):
    server.inject(Fault(INFO, "truncate", 9), Fault(FILE, "truncate", 9))
    with pytest.raises(Transient):
        hub.info("tiny/one")
    with pytest.raises(Transient):
        hub.read_bytes("tiny/one", repo, "data.json", 20_000)


# Downloads


@pytest.fixture
def files(server, repo, hub):
    weights = safetensors({"a": (100, 100)}, b"\7")
    push(server, "tiny/one", {"model.safetensors": weights})
    return hub.info("tiny/one")


def wanted(facts, *names):
    return [facts.file(name) for name in names]


def test_fetch_makes_a_plain_folder_of_exactly_these_files(server, hub, files, tmp_path):
    into = tmp_path / "models" / "one"
    chosen = wanted(files, "model.safetensors", "config.json")

    hub.fetch("tiny/one", files.sha, chosen, into)

    assert {path.name for path in into.iterdir()} == {"model.safetensors", "config.json"}
    assert all(path.is_file() and not path.is_symlink() for path in into.iterdir())
    assert (into / "config.json").read_bytes() == b"{}"
    assert not list((tmp_path / "cache").glob("*@*"))
    server.forget_requests()
    hub.fetch("tiny/one", files.sha, chosen, into)
    assert server.requests == ()


def test_no_files_make_no_folder_and_an_empty_folder_is_none(hub, files, tmp_path):
    """One that holds nothing would count as complete ever after."""
    with pytest.raises(Broken, match="names no files"):
        hub.fetch("tiny/one", files.sha, [], tmp_path / "one")
    assert not (tmp_path / "one").exists()
    (tmp_path / "one").mkdir()
    hub.fetch("tiny/one", files.sha, wanted(files, "config.json"), tmp_path / "one")
    assert (tmp_path / "one" / "config.json").read_bytes() == b"{}"


def test_a_fetch_that_failed_leaves_no_folder_and_goes_on(server, hub, files, tmp_path):
    into = tmp_path / "one"
    chosen = wanted(files, "config.json", "data.json")
    server.inject(Fault(r"(HEAD|GET) /tiny/one/resolve/\w+/data.json", "status", 99, status=500))

    with pytest.raises(Transient):
        hub.fetch("tiny/one", files.sha, chosen, into)
    assert not into.exists()

    server.clear_faults()
    server.forget_requests()
    hub.fetch("tiny/one", files.sha, chosen, into)
    assert not [r for r in server.requests if "config.json" in r.path]
    assert (into / "data.json").stat().st_size == 10_000


def test_wrong_bytes_are_discarded_then_refused(server, hub, files, tmp_path):
    into = tmp_path / "one"
    server.inject(Fault(r"GET /tiny/one/resolve/\w+/data.json", "corrupt", 2))

    with pytest.raises(Transient):
        hub.fetch("tiny/one", files.sha, wanted(files, "data.json"), into)
    with pytest.raises(Rejected) as refused:
        hub.fetch("tiny/one", files.sha, wanted(files, "data.json"), into)
    assert refused.value.code is Reason.CORRUPT_UPSTREAM
    assert not into.exists()


def test_wrong_bytes_once_are_forgiven(server, hub, files, tmp_path):
    server.inject(Fault(r"GET /tiny/one/resolve/\w+/data.json", "corrupt"))
    with pytest.raises(Transient):
        hub.fetch("tiny/one", files.sha, wanted(files, "data.json"), tmp_path / "one")
    hub.fetch("tiny/one", files.sha, wanted(files, "data.json"), tmp_path / "one")
    assert (tmp_path / "one" / "data.json").read_bytes() == b"x" * 10_000


def test_wrong_bytes_from_the_xet_store_are_discarded_too(server, hub, files, tmp_path):
    lying = replace(files.file("model.safetensors"), sha256="0" * 64)
    with pytest.raises(Transient):
        hub.fetch("tiny/one", files.sha, [lying], tmp_path / "one")
    hub.fetch("tiny/one", files.sha, wanted(files, "model.safetensors"), tmp_path / "one")
    assert (tmp_path / "one" / "model.safetensors").stat().st_size == lying.size


@contextmanager
def no_space():
    """Files of this process may have 100 bytes; the kernel refuses the rest like a full disk.

    Not a fixture: the test runner writes to files too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_transient_and_leaves_no_folder(server, hub, files, tmp_path):
    with pytest.raises(Transient), no_space():
        hub.fetch("tiny/one", files.sha, wanted(files, "data.json"), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_repository_that_vanishes_while_fetching_is_gone(server, hub, files, tmp_path):
    door(server, tmp_path, "alice").api.delete_repo("tiny/one")
    with pytest.raises(Gone):
        hub.fetch("tiny/one", files.sha, wanted(files, "config.json"), tmp_path / "one")


def test_reading_needs_no_lease_and_writing_does(server, hub, repo):
    def lost():
        raise LeaseLost(1, 2)

    server.forget_requests()
    with pytest.raises(LeaseLost):
        hub.set_private("tiny/one", True, fence=lost)
    assert {request.method for request in server.requests} == {"GET"}
