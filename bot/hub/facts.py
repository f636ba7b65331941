"""What the Hub says about a repository, reduced to plain values that we can rely on.

Cards, tags and listings are text of strangers. Whatever is not of the expected type is dropped
here, so that nothing behind this module meets a list where it expects a string.
Not promised: that the text is true. `base_model` and `license` are claims of the uploader.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import ModelInfo

REPO_ID = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
SHA = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ISO_639_1 = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
    id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
    lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
    ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
    tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(("code", "multilingual", *_ISO_639_1.split()))
"""What our cards may carry. The Hub refuses a card with a code that it does not know, so one that a
stranger made up must not come onto ours."""
_LONGEST_PATH = 500


@dataclass(frozen=True, slots=True)
class FileFact:
    """One file of one commit.

    size: bytes. sha256: of the content, for files in large-file storage only.
    blob_id: git's sha1 of the blob; of the content only where `sha256` is None.
    """

    path: str
    size: int
    sha256: str | None = None
    blob_id: str | None = None

    @property
    def digest(self) -> str | None:
        """What the content must hash to: `sha256:...`, `git:...`, or None if nothing is known."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"git:{self.blob_id}" if self.blob_id else None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One line of a listing: a repository at the commit that it had then. Times are in UTC."""

    repo: str
    sha: str
    author: str
    created_at: datetime
    modified_at: datetime
    downloads: int
    likes: int
    gated: bool
    private: bool
    tags: tuple[str, ...]
    licence: str | None


@dataclass(frozen=True, slots=True)
class RepoFacts:
    """A repository at one commit, as its page describes it.

    base_models: fine-tuned from. languages: those that the card states, sorted.
    """

    repo: str
    sha: str
    author: str
    gated: bool
    private: bool
    disabled: bool
    tags: tuple[str, ...]
    base_models: tuple[str, ...]
    licence: str | None
    languages: tuple[str, ...]
    not_for_all_audiences: bool
    created_at: datetime
    modified_at: datetime
    likes: int
    downloads: int
    files: tuple[FileFact, ...]

    def file(self, path: str) -> FileFact | None:
        """The file at `path`, or None."""
        return next((file for file in self.files if file.path == path), None)

    @property
    def sighting(self) -> Sighting:
        """The same without the files."""
        names = Sighting.__slots__
        return Sighting(**{name: getattr(self, name) for name in names})


NOT_FOR_ALL = "not-for-all-audiences"
EPOCH = datetime(2022, 3, 2, 23, 29, 4, tzinfo=UTC)
"""The Hub's floor for `createdAt`; also used where a time is missing."""


def sighting(model: ModelInfo) -> Sighting | None:
    """The listing's line, or None if id or sha are missing or malformed."""
    if not is_repo_id(model.id) or not is_sha(model.sha):
        return None
    tags = strings(model.tags)
    return Sighting(
        repo=model.id,
        sha=model.sha or "",
        author=_author(model),
        created_at=_time(model.created_at),
        modified_at=_time(model.last_modified),
        downloads=_count(model.downloads),
        likes=_count(model.likes),
        gated=bool(model.gated),
        private=bool(model.private),
        tags=tags,
        licence=licence_of(tags, card_of(model)),
    )


def repo_facts(model: ModelInfo, files: Iterable[FileFact]) -> RepoFacts | None:
    """Everything that the page says, with `files`, or None if id or sha are malformed."""
    seen = sighting(model)
    if seen is None:
        return None
    card = card_of(model)
    return RepoFacts(
        **{name: getattr(seen, name) for name in Sighting.__slots__},
        disabled=bool(model.disabled),
        base_models=finetuned_from(seen.tags, card),
        languages=languages_of(card),
        not_for_all_audiences=NOT_FOR_ALL in {*seen.tags, *strings(card.get("tags"))},
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def model_of(told: object) -> ModelInfo | None:
    """What the Hub says of one repository, or None where the client fails over it, as it does over
    cards that are no cards.

    The client knows one way to write a time; other Hubs have others. A time that nobody can read
    is as good as none.
    """
    if not isinstance(told, Mapping):
        return None
    plain = {str(key): value for key, value in told.items()}
    for name in ("createdAt", "lastModified"):
        plain[name] = _on_the_wire(plain.get(name))
    try:
        return ModelInfo(**plain)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _on_the_wire(value: object) -> str | None:
    """An ISO 8601 time in the form that the client reads."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
        when = when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC) if when else None
    except (ValueError, OverflowError):
        return None
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else None


def files_of(model: ModelInfo) -> list[FileFact] | None:
    """Files with their sizes, or None if the Hub did not send them."""
    if model.siblings is None or any(file.size is None for file in model.siblings):
        return None
    return [
        file_fact(
            str(file.rfilename),
            file.size,
            file.lfs.sha256 if file.lfs else None,
            file.blob_id,
        )
        for file in model.siblings
    ]


def file_fact(path: str, size: object, sha256: object, blob_id: object) -> FileFact:
    """One file as a listing has it. Some Hubs name every file by the sha256 of its content."""
    digest = _hex(sha256, _SHA256) or _hex(blob_id, _SHA256)
    return FileFact(path=path, size=_count(size), sha256=digest, blob_id=_hex(blob_id, SHA))


def finetuned_from(tags: Iterable[str], card: Mapping[str, Any]) -> tuple[str, ...]:
    """Bases that the repository is a fine-tune of.

    The Hub's tags decide where there are any (`base_model:finetune:ORG/NAME`). Otherwise the card
    does, as the Hub would infer it: an explicit relation wins, more than one base is a merge.
    """
    lineage = [tag.removeprefix("base_model:") for tag in tags if tag.startswith("base_model:")]
    if lineage:
        found = [tag.removeprefix("finetune:") for tag in lineage if tag.startswith("finetune:")]
        return tuple(dict.fromkeys(repo for repo in found if is_repo_id(repo)))
    bases = [repo for repo in strings(card.get("base_model")) if is_repo_id(repo)]
    relation = card.get("base_model_relation") or ("finetune" if len(bases) == 1 else "merge")
    return tuple(dict.fromkeys(bases)) if relation == "finetune" else ()


def licence_of(tags: Iterable[str], card: Mapping[str, Any]) -> str | None:
    """The declared licence in lower case, or None where none or more than one is declared."""
    found = {tag.removeprefix("license:") for tag in tags if tag.startswith("license:")}
    found = found or set(strings(card.get("license")))
    return found.pop().strip().lower() or None if len(found) == 1 else None


def languages_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages that a card states, sorted; codes that are not in `LANGUAGES` are left out.

    Not read from tags, where `en` is a language and `ml` may be machine learning.
    """
    return tuple(sorted(LANGUAGES & {*strings(card.get("language"))}))


def card_of(model: ModelInfo) -> Mapping[str, Any]:
    """The card's metadata as a mapping; empty where there is none."""
    card: object = model.card_data
    if isinstance(card, Mapping):
        return card
    return vars(card) if card is not None and hasattr(card, "__dict__") else {}


def strings(value: object) -> tuple[str, ...]:
    """A string or a list of strings; anything else in it is left out."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(item for item in items if isinstance(item, str) and len(item) <= 500)


def is_repo_id(value: object) -> bool:
    return isinstance(value, str) and REPO_ID.fullmatch(value) is not None and ".." not in value


def is_sha(value: object) -> bool:
    return isinstance(value, str) and SHA.fullmatch(value) is not None


def is_safe_path(path: str) -> bool:
    """True if `path` stays below the folder it is joined to, by POSIX and by Windows rules."""
    if not 0 < len(path) <= _LONGEST_PATH or not path.isprintable() or "\\" in path:
        return False
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    if posix.is_absolute() or windows.drive or windows.root:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _author(model: ModelInfo) -> str:
    if isinstance(model.author, str) and model.author:
        return model.author
    return model.id.split("/")[0] if "/" in model.id else ""


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        return EPOCH
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _hex(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
