"""A soup as a value: who is in it, at which commit, with which exact weight.

Canonical JSON: keys sorted, no spaces, ASCII, members in the order of their digests, weights as
reduced fractions `"2/5"`. The digest is the SHA-256 of those bytes, so two recipes are the same
soup if and only if their digests agree. Weights are `fractions.Fraction`: 0.4 means 4/10, never the
nearest double.

Not promised: that the members exist, or that their bytes have the digests that are written here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import lcm
from typing import NoReturn

from merge.checkpoint import parse_json
from merge.errors import Code, Refused

FORMAT = "stockpot-recipe"
VERSION = 1
LARGEST = 2**53
"""Of the common denominator and every numerator: up to here whole numbers are exact in fp64."""
MAX_RECIPE = 1_000_000
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""Output dtypes by their torch names, and what safetensors calls them."""

_WEIGHT = re.compile(r"-?[0-9]{1,18}(/[0-9]{1,18}|\.[0-9]{1,18})?", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHA = re.compile(r"[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Member:
    """One ingredient. repo: a Hub id or a folder's name; sha: 40 hex digits, or "" for a folder;
    digest: content digest (`merge.fingerprints`), 64 hex digits; weight: exact."""

    repo: str
    sha: str
    digest: str
    weight: Fraction


@dataclass(frozen=True, slots=True)
class Recipe:
    """Base, members in the order of their digests, and output dtype (None: as in the base).

    Raises Refused on construction: `bad-recipe`, `weights`, `duplicate-member`.
    """

    base_repo: str
    base_sha: str
    base_digest: str
    members: tuple[Member, ...]
    dtype: str | None = None

    def __post_init__(self) -> None:
        _check_pin(self.base_repo, self.base_sha, self.base_digest)
        for member in self.members:
            _check_pin(member.repo, member.sha, member.digest)
        if self.dtype is not None and self.dtype not in DTYPES:
            _bad("dtype", f"{self.dtype!r} is none of {', '.join(DTYPES)}")
        check_weights([m.weight for m in self.members], allow_negative=True)
        by_digest = {m.digest: m for m in self.members}
        if len(by_digest) != len(self.members):
            one = next(m for m in self.members if by_digest[m.digest] is not m)
            detail = f"has the content of {by_digest[one.digest].repo}"
            raise Refused(Code.DUPLICATE_MEMBER, one.repo, detail, "add the two weights")
        ordered = tuple(by_digest[digest] for digest in sorted(by_digest))
        object.__setattr__(self, "members", ordered)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON; `Recipe.from_json` gives an equal recipe."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "base": {"repo": self.base_repo, "sha": self.base_sha, "digest": self.base_digest},
            "members": [
                {"repo": m.repo, "sha": m.sha, "digest": m.digest, "weight": str(m.weight)}
                for m in self.members
            ],
            "dtype": self.dtype,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Parse any JSON spelling of a recipe. Raises Refused: `bad-recipe`, `weights`."""
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > MAX_RECIPE:
            _bad("recipe", f"more than {MAX_RECIPE} bytes")
        value = parse_json(raw, "recipe", Code.BAD_RECIPE)
        if value.get("format") != FORMAT or value.get("version") != VERSION:
            _bad("format", f"not {FORMAT} version {VERSION}")
        base, members = value.get("base"), value.get("members")
        dtype = value.get("dtype")
        if not isinstance(base, dict) or not isinstance(members, list):
            _bad("recipe", "base or members are missing")
        if dtype is not None and not isinstance(dtype, str):
            _bad("dtype", "not a string")
        return cls(*_pin(base), tuple(_member(m) for m in members), dtype)


def parse_weight(text: str) -> Fraction:
    """`"0.4"`, `"2/5"` or `"1"` as an exact fraction. Raises Refused: `weights`."""
    if not _WEIGHT.fullmatch(text):
        raise Refused(Code.WEIGHTS, text, "not a weight", "write 0.4 or 2/5")
    try:
        weight = Fraction(text) if "/" in text else Fraction(Decimal(text))
    except (ZeroDivisionError, InvalidOperation) as error:
        raise Refused(Code.WEIGHTS, text, "not a number", "write 0.4 or 2/5") from error
    return weight


def check_weights(weights: Sequence[Fraction], *, allow_negative: bool = False) -> None:
    """Weights sum to exactly one; none is negative unless asked. Raises Refused: `weights`."""
    if not weights:
        raise Refused(Code.WEIGHTS, "members", "there are none", "give at least one member")
    denominator = common_denominator(weights)
    if any(abs(weight) * denominator > LARGEST for weight in weights):
        raise _too_fine()
    for weight in weights:
        if weight < 0 and not allow_negative:
            remedy = "ask for it: allow_negative, --allow-negative"
            raise Refused(Code.WEIGHTS, str(weight), "is negative", remedy)
    total = sum(weights, Fraction(0))
    if total != 1:
        raise Refused(Code.WEIGHTS, "sum", f"is {total}, not 1", "weights must sum to one exactly")


def common_denominator(weights: Iterable[Fraction], most: int = LARGEST) -> int:
    """The least common denominator, 1 for no weights. Raises Refused (`weights`) above `most`.

    It is looked at after every weight: that of many has as many digits as all of them together.
    """
    found = 1
    for weight in weights:
        found = lcm(found, weight.denominator)
        if found > most:
            raise _too_fine()
    return found


def numerators(weights: Sequence[Fraction]) -> tuple[tuple[int, ...], int]:
    """Integers over the least common denominator: 0.4, 0.6 -> (2, 3), 5."""
    denominator = common_denominator(weights)
    return tuple(int(weight * denominator) for weight in weights), denominator


def _too_fine() -> Refused:
    return Refused(
        Code.WEIGHTS, "denominator", f"numerators or common denominator above {LARGEST}",
        "use weights of one small denominator",
    )  # fmt: skip


def _member(value: object) -> Member:
    if not isinstance(value, dict) or not isinstance(value.get("weight"), str):
        _bad("members", "an entry is malformed")
    return Member(*_pin(value), weight=parse_weight(value["weight"]))


def _pin(value: dict[str, object]) -> tuple[str, str, str]:
    repo, sha, digest = value.get("repo"), value.get("sha"), value.get("digest")
    if not (isinstance(repo, str) and isinstance(sha, str) and isinstance(digest, str)):
        _bad("recipe", "repo, sha and digest must be strings")
    return repo, sha, digest


def _check_pin(repo: str, sha: str, digest: str) -> None:
    if not repo or len(repo) > 1000 or not repo.isprintable():
        _bad(repo, "not a name")
    if sha and not _SHA.fullmatch(sha):
        _bad(repo, f"sha {sha!r:.60} is not 40 hex digits")
    if not _DIGEST.fullmatch(digest):
        _bad(repo, f"digest {digest!r:.80} is not 64 hex digits")


def _bad(subject: str, detail: str) -> NoReturn:
    raise Refused(Code.BAD_RECIPE, subject, detail, "write it as the one beside a soup")
