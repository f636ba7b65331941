"""HTTP manners for the Hub client: time limits, patience, fences, and one vocabulary of errors.

huggingface_hub 2.x shares one HTTP client per process, without any timeout, and its own retries
differ from call to call: a `Retry-After: 300` would put the calling thread to sleep for 301 s.
`install()` replaces that client by a `Door`. A request made inside `with calling(Call(...))` is

- capped in time, whatever timeout the caller asked for, and in size unless it is streamed;
- refused without being sent while the Hub asked us to wait (`Gate`);
- preceded by the fence, when it writes anything (so a lost lease stops it at the last moment);
- repeated a few times if it only reads and the connection or the server failed;
- answered here where it asks a Hub that checks no cards whether a card is in order;
- turned into an error of `bot.errors` when nothing useful came back.

Requests of the same process outside `calling` keep the client's own behaviour, with a time cap.
Not promised: hf-xet moves bytes in native code, past this door; its limits are its own.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx2 as httpx
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import hf_request_event_hook, parse_ratelimit_headers

from bot.errors import Busy, Transient, Unknown

API_ANSWER_LIMIT = 64 * 2**20  # bytes; a listing page is well below 1 MiB
FOREIGN_TIMEOUT = 120.0  # seconds; for requests that are not ours
LONGEST_WAIT = 6 * 3600.0  # seconds; a Hub that asks for more is asked again all the same
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FAULTY = frozenset({408, 500, 502, 503, 504})
ABSENT = frozenset({404, 405, 501})
"""A Hub without this endpoint; some ask the client for more than they know."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Gate:
    """Remembers until when the Hub wants no requests, per kind of request.

    The Hub counts API calls and file downloads apart, in fixed windows (documentation page "Rate
    limits"). A request that comes too early raises Transient instead of being sent.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, bucket: str) -> None:
        left = self._closed_until.get(bucket, 0.0) - self._clock()
        if left > 0:
            raise Transient(f"the Hub limits {bucket} requests", retry_after=left)

    def close(self, bucket: str, seconds: float) -> None:
        with self._lock:
            until = self._clock() + seconds
            self._closed_until[bucket] = max(self._closed_until.get(bucket, 0.0), until)


@dataclass
class Call:
    """What one operation on the Hub allows itself.

    timeout: seconds without a byte before giving up; also the whole time of a small answer, x4.
    fence: called right before every request that writes; raises LeaseLost to stop it.
    attempts: how often a reading request is sent at most.
    pause: seconds before the first repetition; doubles each time.
    asked: set once a request left this machine.
    commit_sent: set once a commit left this machine and its outcome is not known.
    """

    gate: Gate
    timeout: float
    fence: Callable[[], None] | None = None
    attempts: int = 3
    pause: float = 0.5
    asked: bool = field(default=False, init=False)
    commit_sent: bool = field(default=False, init=False)


_CALL: ContextVar[Call | None] = ContextVar("hub_call", default=None)


@contextmanager
def calling(call: Call) -> Iterator[Call]:
    """Within this block, requests of this thread follow `call`."""
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


class Door(httpx.Client):
    """The shared HTTP client of the process; see the module docstring."""

    def send(self, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        call = _CALL.get()
        cap_timeouts(request, call.timeout if call else FOREIGN_TIMEOUT)
        if call is None:
            return super().send(request, stream=stream, **how)
        bucket = "resolvers" if "/resolve/" in request.url.path else "api"
        call.gate.check(bucket)
        if request.method not in _SAFE:
            if call.fence is not None:
                call.fence()
            return self._exchange(call, bucket, request, stream, how)
        for attempt in range(1, call.attempts):
            try:
                return self._exchange(call, bucket, request, stream, how)
            except Transient as fault:
                slow = isinstance(fault.__cause__, httpx.TimeoutException)
                if slow or fault.retry_after is not None:
                    raise
            time.sleep(call.pause * 2 ** (attempt - 1))
        return self._exchange(call, bucket, request, stream, how)

    def _exchange(
        self, call: Call, bucket: str, request: httpx.Request, stream: bool, how: dict[str, Any]
    ) -> httpx.Response:
        """One request and its answer. Raises Transient, or Unknown for a commit without one."""
        commits = is_commit(request)
        what = f"{request.method} {request.url.path}"
        try:
            call.asked, call.commit_sent = True, commits
            response = self._receive(request, stream, None if stream else call.timeout * 4, how)
        except httpx.HTTPError as error:
            if isinstance(error, _NOT_SENT):
                call.commit_sent = False
            if call.commit_sent:
                raise Unknown(what, _describe(error)) from error
            raise Transient(f"{what}: {_describe(error)}") from error
        wait = seconds_to_wait(response.status_code, response.headers)
        if wait is not None:
            call.gate.close(bucket, wait)
        if response.status_code == 429:
            call.commit_sent = False
            response.close()
            raise Transient(f"{what}: rate limited", retry_after=wait)
        if response.status_code in _FAULTY:
            response.close()
            if commits:
                raise Unknown(what, f"status {response.status_code}")
            raise Transient(f"{what}: status {response.status_code}", retry_after=wait)
        if response.status_code == 409 and request.url.path.endswith("/api/repos/create"):
            # create_repo repeats one kind of 409 in a loop without pause or end
            raise Busy("the account")
        if response.is_error:
            call.commit_sent = False
        if request.url.path == "/api/validate-yaml" and response.status_code in ABSENT:
            return httpx.Response(200, json={"errors": [], "warnings": []}, request=request)
        return response

    def _receive(
        self, request: httpx.Request, stream: bool, seconds: float | None, how: dict[str, Any]
    ) -> httpx.Response:
        response = super().send(request, stream=True, **how)
        response.stream = _Guarded(response.stream, seconds)
        if not stream:
            try:
                response.read()
            finally:
                response.close()
        return response


def is_commit(request: httpx.Request) -> bool:
    """True for the one request whose effect is neither idempotent nor refused when repeated."""
    return request.method == "POST" and "/commit/" in request.url.path


def cap_timeouts(request: httpx.Request, seconds: float) -> None:
    """Limit every phase of `request` to `seconds`; None ("for ever") becomes `seconds` too."""
    asked: Mapping[str, float | None] = request.extensions.get("timeout", {})
    phases = ("connect", "read", "write", "pool")
    capped = {phase: min(asked.get(phase) or seconds, seconds) for phase in phases}
    request.extensions = {**request.extensions, "timeout": capped}


def seconds_to_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks us to stay away for, or None.

    Reads `Retry-After` (seconds or a date, RFC 9110 section 10.2.3) of refusals, and `RateLimit`
    (draft-ietf-httpapi-ratelimit-headers) of any answer that leaves us no request. Nothing that
    stands there is more than `LONGEST_WAIT`; what cannot be read says nothing.
    """
    asked = _window(headers)
    if asked is None and status >= 400:
        asked = _retry_after(headers.get("retry-after", "").strip())
    return None if asked is None else min(max(asked, 0.0), LONGEST_WAIT)


def _window(headers: Mapping[str, str]) -> float | None:
    """Seconds until there are requests again, where none is left."""
    try:
        limit = parse_ratelimit_headers(headers)
    except ValueError:  # Python reads no number of thousands of digits
        return None
    if limit is None or limit.remaining > 0:
        return None
    return float(min(limit.reset_in_seconds, int(LONGEST_WAIT)))


def _retry_after(text: str) -> float | None:
    if text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        zone = date.tzinfo or UTC
        return (date.replace(tzinfo=zone) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


class _Guarded(httpx.SyncByteStream):
    """An answer's bytes, with a limit on time and size when `seconds` is given.

    A read timeout restarts with every byte, so alone it does not stop a server that drips.
    """

    def __init__(self, stream: Any, seconds: float | None) -> None:
        self._stream = stream
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        total = 0
        for chunk in self._stream:
            total += len(chunk)
            if deadline is not None and time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"answer not complete after {self._seconds:.0f} s")
            if deadline is not None and total > API_ANSWER_LIMIT:
                raise httpx.ReadError(f"answer larger than {API_ANSWER_LIMIT} bytes")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _describe(error: httpx.HTTPError) -> str:
    return f"{type(error).__name__} {error}".strip()


@cache
def install() -> None:
    """Make the process-wide Hub client a `Door`; once, since replacing it breaks open requests."""
    set_client_factory(_open_door)


def _open_door() -> httpx.Client:
    return Door(
        event_hooks={"request": [hf_request_event_hook]},
        follow_redirects=True,
        timeout=httpx.Timeout(FOREIGN_TIMEOUT),
    )
