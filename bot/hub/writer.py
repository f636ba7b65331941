"""Writing to the Hub: every effect is guarded, or idempotent by value.

Every method that writes takes `fence`, which is called right before each request that changes
anything and raises LeaseLost to stop it. A commit carries the head it was based on, so a stale
coordinator's commit is refused by the Hub even where the fence was passed too early.
Not promised: that an error means that nothing happened. `Unknown` says so in so many words; after
any other fault of a commit the Hub has told us that it did not take place.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

from bot.errors import Broken, Busy, Forbidden, Rejected, Unknown
from bot.hub.download import fetch
from bot.hub.facts import FileFact, is_sha
from bot.hub.reader import Reader
from bot.hub.session import taking_apart, use_plain_uploads
from bot.hub.wire import ABSENT, Call
from bot.reasons import Reason

Fence = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the token belongs to. orgs: organisations in which it may write."""

    name: str
    orgs: tuple[str, ...]
    role: str


class Hub(Reader):
    """Reading and writing as one account. All methods raise `bot.errors` only.

    cache: folder for downloads under way (see `bot.hub.download`).
    """

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        cache: Path,
        *,
        timeout: float = 30.0,
        attempts: int = 3,
        pause: float = 0.5,
    ) -> None:
        super().__init__(
            endpoint,
            token,
            timeout=timeout,
            attempts=attempts,
            pause=pause,
        )
        self.cache = cache
        # hf-xet, in native code, knows no other way to be told where its working files go
        os.environ.setdefault("HF_XET_CACHE", str(cache / "xet"))
        self._identity: Identity | None = None
        self._fetching = Lock()  # two steps may want the same folder
        self._uploads_settled = False

    def fetch(self, repo: str, sha: str, files: Sequence[FileFact], into: Path) -> None:
        """Exactly `files` of `repo@sha` as regular, hash-checked files in the new folder `into`."""
        with self._fetching:
            fetch(self, self.cache, repo, sha, files, into)

    def whoami(self) -> Identity:
        """The token's owner. Asked once: the Hub limits this question strictly."""
        if self._identity is None:
            with self.calling("whoami"):
                told = self.api.whoami()
            with taking_apart("whoami"):
                access = (told.get("auth") or {}).get("accessToken") or {}
                orgs = [org for org in told.get("orgs") or () if org.get("roleInOrg") != "read"]
                self._identity = Identity(
                    name=str(told["name"]),
                    orgs=tuple(str(org["name"]) for org in orgs),
                    role=str(access.get("role", "")),
                )
        return self._identity

    def can_write(self, repo: str) -> bool:
        """Whether the token may write to `repo`, or create it.

        Servers without the endpoint answer by namespace: our own name or organisations.
        """
        if self.token is None:
            return False
        try:
            with self.calling(repo):
                url = f"{self.endpoint}/api/models/{repo}/auth-check/write"
                answer = get_session().get(url, headers=self.headers)
                if answer.status_code not in ABSENT:
                    hf_raise_for_status(answer)
                    return True
            me = self.whoami()
        except (Forbidden, Rejected):
            return False
        return me.role != "read" and repo.split("/")[0] in (me.name, *me.orgs)

    def ensure_repo(self, repo: str, private: bool, *, fence: Fence) -> None:
        """Create `repo` where it does not exist. An existing one keeps its visibility."""
        if self.head(repo) is not None:
            return
        try:
            with self.calling(repo, fence):
                self.api.create_repo(repo, private=private, exist_ok=False)
        except Busy:
            if self.head(repo) is None:
                raise

    def set_private(self, repo: str, private: bool, *, fence: Fence) -> None:
        """Set the visibility, where it is not set yet.

        Raises Rejected `hub-refused` where the Hub leaves it as it was.
        """
        if self.info(repo).private == private:
            return
        with self.calling(repo, fence):
            self.api.update_repo_settings(repo, private=private)
        if self.info(repo).private == private:
            return
        with self.calling(repo, fence):  # a Hub that has no word `visibility` yet
            url = f"{self.endpoint}/api/models/{repo}/settings"
            hf_raise_for_status(
                get_session().put(url, headers=self.headers, json={"private": private})
            )
        if self.info(repo).private != private:
            wanted = "private" if private else "public"
            raise Rejected(Reason.HUB_REFUSED, repo, f"it does not become {wanted}")

    def remote_files(self, repo: str, sha: str) -> dict[str, FileFact]:
        """Every file of the commit by its path, with size and hash."""
        return {file.path: file for file in self.info(repo, sha).files}

    def upload_files(self, repo: str, files: Mapping[str, bytes | Path], *, fence: Fence) -> None:
        """Send the content of large files ahead of their commit; addressed by content, repeatable.

        files: path in the repository -> content, or a local file. Small files are left for the
        commit itself.
        """
        self._settle_uploads(repo)
        with self.calling(repo, fence, self.timeout * 4) as call, _content_checks(repo, call):
            self.api.preupload_lfs_files(repo, _additions(files), free_memory=False)

    def commit(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        delete: Sequence[str] = (),
        parent: str,
        message: str,
        fence: Fence,
    ) -> str:
        """One commit on main, only if its head still is `parent`. Returns the new head's sha.

        Where nothing differs from the head the Hub makes no commit, and the head is returned.
        Raises Moved (412), Busy (409), Unknown (no clear answer), Forbidden, Gone, Transient (not
        sent); Rejected `hub-refused` when the Hub does not accept the content (card, quota, size).
        """
        if not is_sha(parent):
            raise Broken(f"{parent!r} is not a full commit sha")
        self._settle_uploads(repo)
        operations: list[Any] = _additions(files)
        operations += [CommitOperationDelete(path, is_folder=False) for path in delete]
        with self.calling(repo, fence, self.timeout * 4) as call, _content_checks(repo, call):
            done = self.api.create_commit(
                repo, operations, commit_message=message, parent_commit=parent
            )
        if not is_sha(done.oid):
            raise Unknown(f"commit to {repo}", "the answer names no commit")
        return str(done.oid)

    def tags(self, repo: str) -> dict[str, str]:
        """Tag name -> sha of the commit it points to."""
        with self.calling(repo):
            answer = get_session().get(
                f"{self.endpoint}/api/models/{repo}/refs", headers=self.headers
            )
            hf_raise_for_status(answer)
            found = answer.json()
        with taking_apart(repo):
            return {str(tag["name"]): str(tag["targetCommit"]) for tag in found.get("tags") or ()}

    def tag(self, repo: str, tag: str, sha: str, *, fence: Fence) -> None:
        """Make `tag` point to `sha`. Raises Broken if it already points elsewhere."""
        if self._tag_exists(repo, tag, sha):
            return
        try:
            with self.calling(repo, fence):
                self.api.create_tag(repo, tag=tag, revision=sha)
        except Busy:
            if not self._tag_exists(repo, tag, sha):
                raise

    def _tag_exists(self, repo: str, tag: str, sha: str) -> bool:
        there = self.tags(repo).get(tag)
        if there not in (None, sha):
            raise Broken(f"tag {tag} of {repo} points to {there}, not to {sha}")
        return there == sha

    def _settle_uploads(self, repo: str) -> None:
        """Find out once whether this Hub speaks Xet; the client itself does not fall back."""
        if self._uploads_settled:
            return
        url = f"{self.endpoint}/api/models/{repo}/xet-write-token/main"
        with self.calling(repo):
            answer = get_session().get(url, headers=self.headers)
        absent = answer.status_code in ABSENT
        if absent and "X-Error-Code" in answer.headers and self.head(repo) is None:
            return  # about the repository, not about the Hub
        if absent or (answer.is_success and "casUrl" not in answer.text):
            use_plain_uploads()
        self._uploads_settled = True


@contextmanager
def _content_checks(repo: str, call: Call) -> Iterator[None]:
    """The client reports a card or an LFS object that the Hub refuses as a bare ValueError."""
    try:
        yield
    except ValueError as error:
        if call.commit_sent or isinstance(error, HfHubHTTPError | JSONDecodeError):
            raise
        raise Rejected(Reason.HUB_REFUSED, repo, " ".join(str(error).split())[:300]) from error


def _additions(files: Mapping[str, bytes | Path]) -> list[CommitOperationAdd]:
    """Fresh operations: the client remembers the remote state in them, so they are used once."""
    try:
        return [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
    except ValueError as error:
        raise Broken(f"a file to publish is missing or has a bad name: {error}") from error
