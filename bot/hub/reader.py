"""Reading from the Hub: find fine-tunes, pin them, read their small files and headers.

Everything is read at a 40-hex commit. With a moving revision the client may hand out stale or
partial content in silence when the Hub has a bad moment, so a branch name is refused here.
Listings are hints: other Hub servers ignore `filter`, `sort` or `expand`, so every line is checked
again on this side and completed where something is missing.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from huggingface_hub import ModelInfo, hf_hub_url
from huggingface_hub.errors import BadRequestError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from bot.errors import Broken, Gone, Rejected, Transient
from bot.hub.facts import (
    FileFact,
    RepoFacts,
    Sighting,
    card_of,
    file_fact,
    files_of,
    finetuned_from,
    is_repo_id,
    is_safe_path,
    is_sha,
    model_of,
    repo_facts,
    sighting,
    strings,
)
from bot.hub.session import Session
from bot.reasons import Reason
from merge.checkpoint import header_length, parse_json
from merge.errors import Code, Refused

SORTS = {"created_at": "created_at", "last_modified": "modified_at"}
ON_THE_WIRE = {"created_at": "createdAt", "last_modified": "lastModified"}
LISTED = [
    "author", "createdAt", "disabled", "downloads", "gated", "lastModified", "likes", "private",
    "sha", "tags",
]  # fmt: skip
"""Not `cardData`: it can be long, and tags say the same where the Hub derives them."""
OVERLAP = 8
"""Lines older than the watermark that a listing goes on for, in case the order is not strict."""
FIRST_READ = 64 * 1024
"""Bytes of a safetensors file to ask for first; most headers are shorter."""


class Reader(Session):
    """The reading half of the Hub. All methods raise `bot.errors` only."""

    def finetunes(
        self,
        base_repo: str,
        *,
        sort: Literal["created_at", "last_modified"] = "created_at",
        stop: datetime | None = None,
    ) -> Iterator[Sighting]:
        """Fine-tunes of `base_repo`, newest first, until `OVERLAP` lines in a row are older.

        stop: watermark; lines whose time is before it are read but not handed out. Each
        (repository, sha) comes once. A Hub that ignores `sort` is read to its end.
        """
        seen: set[tuple[str, str]] = set()
        older = 0
        for model in self._listed(base_repo, sort):
            found = self._completed(model, base_repo)
            if found is None or (found.repo, found.sha) in seen:
                continue
            seen.add((found.repo, found.sha))
            when: datetime = getattr(found, SORTS[sort])
            if stop is None or when >= stop:
                older = 0
                yield found
                continue
            older += 1
            if older > OVERLAP:
                return

    def _listed(
        self, base_repo: str, sort: Literal["created_at", "last_modified"]
    ) -> Iterator[ModelInfo]:
        """Lines of the listing. The call's limits hold while a page is fetched, not in between."""
        asked = {"filter": f"base_model:finetune:{base_repo}", "sort": ON_THE_WIRE[sort]}
        lines = self._pages({**asked, "expand": LISTED})
        with self.calling(f"fine-tunes of {base_repo}"):
            try:
                line = next(lines, None)
            except BadRequestError:  # a Hub that knows no `expand`, or not all of these
                lines = self._pages({**asked, "full": True})
                line = next(lines, None)
        while line is not None:
            model = model_of(line)
            if model is not None:
                yield model
            with self.calling(f"fine-tunes of {base_repo}"):
                line = next(lines, None)

    def _pages(self, asked: dict[str, object]) -> Iterator[object]:
        """Lines, page after page. Raises Transient where the pages go round in a circle."""
        page, read = f"{self.endpoint}/api/models", set[str]()
        params: dict[str, Any] | None = asked
        while page:
            if page in read:
                raise Transient("the listing names one of its pages twice")
            read.add(page)
            answer = get_session().get(page, params=params, headers=self.headers)
            hf_raise_for_status(answer)
            lines = answer.json()
            if not isinstance(lines, list):
                raise Transient("the listing is no list")
            yield from lines
            following = answer.links.get("next", {}).get("url")
            page, params = str(answer.url.join(following)) if following else "", None

    def _completed(self, model: ModelInfo, base_repo: str) -> Sighting | None:
        """The line if it is a fine-tune of the base; asks for what a terse Hub left out."""
        if not is_repo_id(model.id):
            return None
        told = any(tag.startswith("base_model:") for tag in strings(model.tags))
        if told or model.card_data is not None:
            if base_repo not in finetuned_from(strings(model.tags), card_of(model)):
                return None
            found = sighting(model)
            if found is not None:
                return found
        try:
            facts = self.info(model.id)
        except (Gone, Rejected):
            return None  # vanished or hidden since it was listed
        return facts.sighting if base_repo in facts.base_models else None

    def info(self, repo: str, revision: str | None = None) -> RepoFacts:
        """The repository at `revision` (default: the head of main) with its files and hashes.

        A renamed repository is followed; `repo` of the answer is its present name.
        Raises Gone, Forbidden, Transient; Rejected `bad-listing` for metadata that no client reads.
        """
        told = self._page(repo, revision, {"blobs": True})
        if not isinstance(told, Mapping):
            raise Transient(f"{repo}: the answer has another form")
        model = model_of(told)
        if model is None:
            raise Rejected(Reason.BAD_LISTING, repo, "metadata that cannot be read")
        files = files_of(model)
        if is_sha(model.sha) and (files is None or any(_lacks_hash(file) for file in files)):
            files = self._tree(repo, model.sha or "")
        facts = repo_facts(model, files or ())
        if facts is None:
            raise Rejected(Reason.BAD_LISTING, repo, "no usable id or commit sha")
        return facts

    def _page(self, repo: str, revision: str | None, asked: dict[str, Any]) -> object:
        """What the Hub answers about one repository, as JSON."""
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        with self.calling(repo) as call:
            validate_repo_id(repo)
            url = f"{self.endpoint}/api/models/{repo}{at}"
            answer = get_session().get(
                url, headers=self.headers, params=asked, timeout=call.timeout
            )
            hf_raise_for_status(answer)
            return answer.json()

    def _tree(self, repo: str, sha: str) -> list[FileFact]:
        with self.calling(f"{repo}@{sha}"):
            entries = self.api.list_repo_tree(repo, recursive=True, revision=sha)
            return [
                file_fact(
                    str(entry.path),
                    entry.size,
                    entry.lfs.sha256 if entry.lfs else None,
                    entry.blob_id,
                )
                for entry in entries
                if isinstance(entry, RepoFile)
            ]

    def head(self, repo: str) -> str | None:
        """Sha of main's head, or None where there is no such repository (or none for us)."""
        try:
            try:
                told = self._page(repo, None, {"expand": "sha"})
            except Rejected:  # a Hub that knows no `expand`
                told = self._page(repo, None, {})
        except Gone:
            return None
        sha = told.get("sha") if isinstance(told, Mapping) else None
        if not isinstance(sha, str) or not is_sha(sha):
            raise Transient(f"{repo}: the Hub names no head")
        return sha

    def read_bytes(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes:
        """Content of one small file. Raises Gone, Transient; Rejected `too-large` over the cap."""
        raw = self._get(repo, sha, path, max_bytes + 1)
        if len(raw) > max_bytes:
            raise Rejected(Reason.TOO_LARGE, path, f"more than {max_bytes} bytes")
        return raw

    def read_json(
        self,
        repo: str,
        sha: str,
        path: str,
        max_bytes: int = 10_000_000,
        *,
        refuse_as: Reason = Reason.CONFIG_MISMATCH,
    ) -> dict[str, object]:
        """A JSON object without duplicate keys, NaN or endless nesting.

        Raises Gone, Transient; Rejected with `refuse_as` for anything else.
        """
        raw = self.read_bytes(repo, sha, path, max_bytes)
        try:
            return parse_json(raw, path)
        except Refused as refused:
            raise Rejected(refuse_as, refused.subject, refused.detail) from refused

    def read_header(self, repo: str, sha: str, path: str, size: int) -> bytes:
        """The first bytes of a safetensors file, up to the end of its header.

        size: of the whole file, in bytes. Two ranged requests at most; no tensor is downloaded
        beyond the first `FIRST_READ` bytes. Raises Gone, Transient; Rejected with the code that
        `merge.checkpoint.header_length` finds.
        """
        raw = self._get(repo, sha, path, min(FIRST_READ, size), ranged=0) if size else b""
        try:
            end = header_length(raw[:8], path, size)
        except Refused as refused:
            raise Rejected(Reason(refused.code), refused.subject, refused.detail) from refused
        if end > len(raw):
            raw += self._get(repo, sha, path, end - len(raw), ranged=len(raw))
        if len(raw) < end:
            raise Rejected(Reason(Code.BAD_SAFETENSORS), path, "shorter than the listing says")
        return raw[:end]

    def _get(
        self, repo: str, sha: str, path: str, length: int, *, ranged: int | None = None
    ) -> bytes:
        """At most `length` bytes of a file; from byte `ranged` on, asking for no more than those.

        A server that ignores the range sends the whole file; the connection is closed early then.
        """
        if not is_sha(sha) or not is_safe_path(path):
            raise Broken(f"{repo}@{sha}: {path!r} is not a plain path at a full commit sha")
        url = hf_hub_url(repo, path, revision=sha, endpoint=self.endpoint)
        headers = {**self.headers, "Accept-Encoding": "identity"}
        start = ranged or 0
        if ranged is not None:
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        with (
            self.calling(f"{repo}@{sha}: {path}") as call,
            get_session().stream("GET", url, headers=headers) as response,
        ):
            hf_raise_for_status(response)
            skip = start if response.status_code != 206 else 0
            return _take(response.iter_bytes(), skip, length, call.timeout * 4)


def _lacks_hash(file: FileFact) -> bool:
    """Weights lie in large-file storage, so a listing without their sha256 leaves something out."""
    return file.digest is None or (file.sha256 is None and file.path.endswith(".safetensors"))


def _take(chunks: Iterable[bytes], skip: int, length: int, seconds: float) -> bytes:
    """Bytes `skip:skip + length` of a stream. Raises Transient after `seconds`."""
    deadline = time.monotonic() + seconds
    taken = bytearray()
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise Transient(f"the answer is not complete after {seconds:.0f} s")
        taken += chunk[skip:]
        skip = max(0, skip - len(chunk))
        if len(taken) >= length:
            break
    return bytes(taken[:length])
