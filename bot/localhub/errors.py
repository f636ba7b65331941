"""What the server refuses, as one exception that knows its HTTP status and the Hub's error code.

    HubError
    └── RepoMoved    answered with a 307 to the new address

The client chooses its own exception by the `X-Error-Code` header, so `code` uses the Hub's words:
RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo.
"""

from __future__ import annotations


class HubError(Exception):
    """An answer other than success: HTTP `status`, `message` for people, `code` for the client."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: object) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.code = code
        self.extra = extra
        self.headers: dict[str, str] = {}


class RepoMoved(HubError):
    """The repository lives under another name now."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(307, f"Moved to {new}")
        self.old = old
        self.new = new


def repo_not_found() -> HubError:
    return HubError(404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str) -> HubError:
    return HubError(404, f"Entry not found: {path}", "EntryNotFound")


def gated(anonymous: bool) -> HubError:
    words = "Access to this model is restricted and you are not in the authorized list."
    return HubError(401 if anonymous else 403, words, "GatedRepo")


def disabled() -> HubError:
    return HubError(403, "Access to this resource is disabled.")


def unauthenticated() -> HubError:
    return HubError(401, "Invalid username or password.")


def bad_token() -> HubError:
    return HubError(401, "Invalid credentials in Authorization header")


def forbidden(message: str = "You don't have the required permissions") -> HubError:
    return HubError(403, f"Forbidden: {message}")


def bad_request(message: str) -> HubError:
    return HubError(400, message)


def stale_parent() -> HubError:
    return HubError(412, "A commit has happened since. Please refresh and try again.")


def commit_lock() -> HubError:
    return HubError(409, "Another commit operation is in progress for this repository")
