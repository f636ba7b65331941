"""One account on one Hub: the client object, its limits, and the translation of its errors.

Every exception that the client lets out becomes one of `bot.errors` here: `huggingface_hub.errors`,
raw `httpx2` exceptions (connection errors reach the caller untranslated), the built-in
ConnectionError of hf-xet, and whatever the client stumbles over in an answer that is not what it
should be. What our own code stumbles over is a bug and stays one, but for `taking_apart`.
"""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb

import httpx2 as httpx
from huggingface_hub import HfApi, constants
from huggingface_hub import errors as hf
from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

from bot import __version__
from bot.errors import Busy, Fault, Forbidden, Gone, Moved, Rejected, Transient, Unknown
from bot.hub.wire import Call, Gate, install, seconds_to_wait
from bot.hub.wire import calling as calling_wire
from bot.reasons import Reason
from merge.errors import printable

_MISSING = (hf.RepositoryNotFoundError, hf.RevisionNotFoundError, hf.RemoteEntryNotFoundError)
_LEAKS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
    ValueError,
    RuntimeError,
    hf.EntryNotFoundError,
    hf.XetDownloadError,
)
_STUMBLES = (LookupError, TypeError, AttributeError, ArithmeticError)
"""Over an answer in the client's code; in ours, bugs."""
_CLIENT = frozenset({"huggingface_hub", "httpx2", "httpcore2", "hf_xet"})
_MESSAGE_LIMIT = 300


class Session:
    """The Hub client and how patient we are with it.

    endpoint: URL of the Hub without a final slash. token: sent with every request; None means
    anonymous (a token that lies in the user's home is not used).
    timeout: seconds without a byte after which a request is given up; commits get `4 * timeout`.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        *,
        timeout: float = 30.0,
        attempts: int = 3,
        pause: float = 0.5,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.timeout = timeout
        self._attempts = attempts
        self._pause = pause
        self._gate = Gate()
        self.token = token
        self.api = HfApi(
            endpoint=self.endpoint,
            token=token or False,
            library_name="stockpot",
            library_version=__version__,
        )
        self.headers: dict[str, str] = build_hf_headers(
            token=token or False,
            library_name="stockpot",
            library_version=__version__,
        )
        disable_progress_bars()
        install()

    @contextmanager
    def calling(
        self,
        subject: str,
        fence: Callable[[], None] | None = None,
        timeout: float | None = None,
    ) -> Iterator[Call]:
        """Run client code: limits on the way out, `bot.errors` on the way back.

        subject: what the call is about, for the error's sentence.
        """
        call = Call(
            gate=self._gate,
            timeout=timeout or self.timeout,
            fence=fence,
            attempts=self._attempts,
            pause=self._pause,
        )
        try:
            with calling_wire(call):
                yield call
        except Fault:
            raise
        except (*_LEAKS, *_STUMBLES) as error:
            if isinstance(error, _STUMBLES) and not (call.asked and _is_the_clients(error)):
                raise
            told = translate(
                error, subject, commit_sent=call.commit_sent, writing=fence is not None
            )
            raise told from error


@contextmanager
def taking_apart(subject: str) -> Iterator[None]:
    """JSON from the Hub is read here, by us: that it has another form is the Hub's doing.

    Raises Transient.
    """
    try:
        yield
    except _STUMBLES as error:
        raise Transient(f"{subject}: the answer has another form: {_sentence(error)}") from error


def _is_the_clients(error: BaseException) -> bool:
    """Whether it was raised in the client's code, or in a library's on its behalf."""
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _CLIENT or package == __name__.partition(".")[0]:
            return package in _CLIENT
    return False


def translate(
    error: BaseException, subject: str, *, commit_sent: bool = False, writing: bool = False
) -> Fault:
    """The `bot.errors` fault for an exception of the Hub client.

    commit_sent: a commit left this machine and got no clear answer, so whatever happened since
    says nothing about it. writing: a refusal concerns our rights, not a stranger's repository.
    """
    inner = error.__cause__
    if isinstance(inner, Fault):
        return inner
    if commit_sent:
        return Unknown(f"commit to {subject}", _sentence(error))
    if isinstance(error, hf.LocalEntryNotFoundError | RuntimeError) and inner is not None:
        return translate(inner, subject, writing=writing)
    if isinstance(error, hf.GatedRepoError):
        return Forbidden(subject, "gated") if writing else Rejected(Reason.GATED, subject)
    if isinstance(error, hf.DisabledRepoError):
        return Gone(subject, "disabled by the Hub")
    if isinstance(error, _MISSING):
        return Gone(subject, type(error).__name__.removesuffix("Error"))
    if isinstance(error, hf.HfHubHTTPError):
        return _by_status(error, subject, writing)
    if isinstance(error, hf.LocalTokenNotFoundError):
        return Forbidden(subject, "no token")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Transient(f"{subject}: the disk is full")
    if isinstance(error, hf.HFValidationError):
        return Rejected(Reason.BAD_LISTING, subject, _sentence(error))
    return Transient(f"{subject}: {type(error).__name__}: {_sentence(error)}")


def _by_status(error: hf.HfHubHTTPError, subject: str, writing: bool) -> Fault:
    status = error.response.status_code
    why = printable(f"{status} {error.server_message or ''}".strip(), _MESSAGE_LIMIT)
    if status == 403 and not writing:
        return Rejected(Reason.GATED, subject, why)
    if status in (401, 403):
        return Forbidden(subject, why)
    if status == 404 or status == 410:
        return Gone(subject, why)
    if status == 409:
        return Busy(subject, why)
    if status == 412:
        return Moved(subject)
    if 400 <= status < 500 and status not in (408, 425, 429):
        return Rejected(Reason.HUB_REFUSED, subject, why)
    wait = seconds_to_wait(status, error.response.headers)
    return Transient(f"{subject}: {why}", retry_after=wait)


def _sentence(error: BaseException) -> str:
    """The exception's own words in one line, without the client's advice to humans."""
    if isinstance(error, json.JSONDecodeError):
        return "the answer is not JSON"
    return printable(" ".join(str(error).split()), _MESSAGE_LIMIT)


def use_plain_uploads() -> None:
    """Upload through git LFS instead of Xet from now on, in the whole process.

    The client sends large files to Xet whenever hf-xet is installed and does not fall back where
    the server has none; this is the switch behind HF_HUB_DISABLE_XET, thrown at run time.
    """
    constants.HF_HUB_DISABLE_XET = True
