"""`provenance.json`: what a published repository was made of, in a form that can be checked.

It lies beside the card in every repository that the bot writes. `bot verify` reads it back from a
repository that may be damaged or a stranger's, so reading is strict: a size cap, an exact set of
keys, no duplicate keys, no NaN, paths that stay inside the folder, digests that look like digests.
The publisher reads it to recognise its own work: the same `digest` at the head means that this
publication has already happened.

Canonical form: keys sorted, indented by two, ASCII, one newline at the end; equal values give equal
bytes. It lists every other file of its commit; it cannot list itself.

Not promised: that the contents are true. Whoever can write the repository can write this file;
only recomputing from the pinned commits proves anything.
"""

import json
import re
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from merge.untrusted import no_constant, unique_keys

SCHEMA = 1
FILE_NAME = "provenance.json"
MAX_BYTES = 4_000_000
MAX_FILES = 10_000

_SEGMENT = re.compile(r"\.?\w[\w.-]{0,200}", re.ASCII)


class ProvenanceError(ValueError):
    """`problem` says why the file cannot be used; `where` names the key, empty for the whole."""

    def __init__(self, problem: str, where: str = "") -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"{FILE_NAME}{', ' if where else ''}{where}: {problem}")


def _inside(path: str) -> str:
    """`path` where it is a plain relative path under POSIX and Windows rules."""
    if path == FILE_NAME:
        raise ValueError("lists itself")
    if len(path) > 500 or not all(map(_SEGMENT.fullmatch, path.split("/"))):
        raise ValueError("not the path of a file inside the repository")
    return path


_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
RepoId = Annotated[str, StringConstraints(pattern=f"^{_NAME}/{_NAME}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Path = Annotated[str, AfterValidator(_inside)]
Share = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Kind(StrEnum):
    """What the repository holds."""

    SOUP = "soup"
    ROUTER = "router"


@dataclass(frozen=True, config=_STRICT)
class FileDigest:
    """SHA-256 and size in bytes of a published file."""

    sha256: Digest
    size: Count


@dataclass(frozen=True, config=_STRICT)
class Donor:
    """Where configuration, tokenizer and generation settings come from."""

    repo: RepoId
    sha: Commit


@dataclass(frozen=True, config=_STRICT)
class Measured:
    """The benchmark and the division of its items that every score belongs to."""

    suite: Name
    version: Name
    digest: Digest
    splits_digest: Digest
    seed: int


@dataclass(frozen=True, config=_STRICT)
class ScoreRecord:
    """One model in one category on the report split. `model`: `soup`, `base` or `ORG/NAME@SHA`."""

    model: Name
    category: Name
    value: Share
    stderr: Share
    n: Annotated[int, Field(ge=1, lt=2**63)]


@dataclass(frozen=True, config=_STRICT)
class ComparisonRecord:
    """The soup minus `against` on the report split, in shares, with its interval."""

    against: Name
    value: Change
    low: Change
    high: Change
    confidence: Share


@dataclass(frozen=True, config=_STRICT)
class GateRecord:
    """The decision to publish: which look at the report split, at which level, on what figures."""

    look: Annotated[int, Field(ge=1, lt=2**31)]
    level: Share
    alpha: Share
    margin: Change
    best_member: Name
    soups_tried: Count
    tune: Share
    report: Share
    comparisons: tuple[ComparisonRecord, ...]


@dataclass(frozen=True, config=_STRICT)
class Provenance:
    """The whole file. Raises pydantic.ValidationError, a ValueError, where values do not fit.

    digest: of the recipe (soup) or of the configuration (router); names this publication.
    recipe: what is needed to make it again, as JSON: `merge.recipe.Recipe` for a soup, pins and
    calibration settings for a router. files: path -> digest. software: package -> version.
    """

    kind: Kind
    repo: RepoId
    version: Name
    digest: Digest
    recipe: dict[str, JsonValue]
    files: Annotated[dict[Path, FileDigest], Field(min_length=1, max_length=MAX_FILES)]
    software: dict[Name, Name]
    donor: Donor | None = None
    measured: Measured | None = None
    scores: tuple[ScoreRecord, ...] = ()
    gate: GateRecord | None = None
    schema: int = SCHEMA

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema} is not {SCHEMA}")
        soup = {"donor": self.donor, "measured": self.measured, "gate": self.gate}
        absent = [name for name, part in soup.items() if part is None]
        if self.kind is Kind.SOUP and (absent or not self.scores):
            raise ValueError(f"a soup needs {', '.join(absent or ['scores'])}")
        if len({path.casefold() for path in self.files}) != len(self.files):
            raise ValueError("two files differ only by case")
        return self

    @property
    def recipe_json(self) -> str:
        """The recipe as canonical JSON text, for `Recipe.from_json`."""
        return json.dumps(self.recipe, sort_keys=True, separators=(",", ":"))

    def to_json(self) -> str:
        """The canonical text; `parse` gives an equal value back."""
        return json.dumps(asdict(self), sort_keys=True, indent=2, allow_nan=False) + "\n"


def parse(raw: bytes) -> Provenance:
    """Read a file from an untrusted repository. Raises ProvenanceError, and nothing else."""
    if len(raw) > MAX_BYTES:
        raise ProvenanceError(f"larger than {MAX_BYTES:,} bytes")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=unique_keys, parse_constant=no_constant)
        again = json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ProvenanceError("nested too deeply") from None
    except ValueError as error:
        raise ProvenanceError(f"not JSON: {error}"[:300]) from None
    if not isinstance(value, dict):
        raise ProvenanceError("not a JSON object")
    _check_schema(value.get("schema"))
    try:
        # JSON mode: strict about types, and still reads arrays as tuples and strings as enums.
        return _ADAPTER.validate_json(again)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise ProvenanceError(first["msg"][:300], ascii(where)[1:-1]) from None


_ADAPTER: TypeAdapter[Provenance] = TypeAdapter(Provenance)


def _check_schema(schema: object) -> None:
    if type(schema) is not int:
        raise ProvenanceError("missing, or not a number", "schema")
    if schema > SCHEMA:
        raise ProvenanceError(
            f"version {schema} is newer than {SCHEMA}, the newest that this Stockpot reads; update",
            "schema",
        )
    if schema != SCHEMA:
        raise ProvenanceError(f"there is no version {schema}", "schema")
