"""Task ``soup``: plan a soup from folders and, if asked to, write it.

    {"tensors": [{"name", "shape", "dtype", "how"}, ...]}       of a plan that is not carried out
    {"plan": {"base", "tensors", "dtypes", "ties", "output_bytes", "input_bytes", "free_bytes",
              "remarks", "seconds"}}
    {"progress": bytes, "total": bytes, "what": "read"}         or "written"; now and then
    {"recipe": {...} | null, "recipe_digest": "...",
     "files": {name: {"sha256", "size"}}, "seconds": {"plan", "digests", "merge", "hash", ...}}
    {"refusals": [{"code", "subject", "detail", "remedy"}]}     instead of what would have followed

A plan may have many reasons against it, and all are told; later there is one. Members are digested
before they are merged, because the recipe, which lies beside the weights, names them by content.
"""

import errno
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

from bot.worker.digests import Digests
from bot.worker.jobs import Ingredient, Soup
from bot.worker.protocol import Channel
from bot.worker.teller import Teller
from merge.checkpoint import MAX_CONFIG, MAX_TOKENIZER, open_small, parse_json, read_small
from merge.compat import head_and_embedding
from merge.errors import Code, Refused
from merge.lora import is_adapter
from merge.mergekit import Blend, blend_yaml
from merge.plan import refusals
from merge.recipe import DTYPES, Member, Recipe
from merge.remarks import remarks
from merge.soup import SoupPlan, check_disk, plan_soup, write_soup

_AT_ONCE = 500  # tensors in one message
_MOST = 1000  # refusals in one message
RECIPE, MERGEKIT, CONFIG = "recipe.json", "mergekit.yaml", "config.json"
_PLACES = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST,
        errno.ELOOP,
    }
)  # fmt: skip
"""Errors that say that a path was badly chosen, not that the machine failed."""
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_ENTRY = re.compile(rb"(%b)(\s*:\s*)(%b)|%b" % (_STRING, _STRING, _STRING))
"""In valid JSON: a key with the string that is its value, or any other string."""


def run(job: Soup, channel: Channel) -> None:
    try:
        _Cook(job, channel).run()
    except Refused as refused:
        channel.send({"refusals": [_plain(refused)]})
    except OSError as error:
        if error.errno not in _PLACES or not isinstance(error.filename, str):
            raise
        channel.send({"refusals": [_plain(_misplaced(job, error))]})


class _Cook:
    """One job."""

    def __init__(self, job: Soup, channel: Channel) -> None:
        self.job, self.channel = job, channel
        self.members = [(m.weights, Fraction(m.weight)) for m in job.members]
        self.base = job.base or _leader(job.members)
        self.reference = self.base.weights if self.base is not None else None
        known = (*job.members, *([] if self.base is None else [self.base]))
        self.names = {one.weights: _pinned(one) for one in known if one.sha}

    def run(self) -> None:
        started = time.perf_counter()
        plan = self._plan()
        if plan is None:
            return
        if self.job.hash:
            self._check_names(plan)
        if not self.job.write:
            for some in _tensors(plan):
                self.channel.send({"tensors": some})
        seconds = time.perf_counter() - started
        self.channel.send({"plan": {**self._facts(plan), "seconds": seconds}})
        out = self.job.out
        if self.job.write and out is not None:
            with _folders_above(out):
                check_disk(plan, out)
                self._write(plan, out, seconds)
        elif out is not None and out.parent.is_dir():
            check_disk(plan, out)

    def _plan(self) -> SoupPlan | None:
        """None where it is refused; all reasons have been told then."""
        try:
            return plan_soup(
                self.members, reference=self.reference, dtype=self.job.dtype,
                allow_negative=self.job.negative, names=self.names,
            )  # fmt: skip
        except Refused as first:
            found = refusals(
                self.members, reference=self.reference, dtype=self.job.dtype,
                allow_negative=self.job.negative, names=self.names,
            )  # fmt: skip
            told = [_plain(refused) for refused in (found or (first,))[:_MOST]]
            self.channel.send({"refusals": told})
            return None

    def _check_names(self, plan: SoupPlan) -> None:
        """Refuse (`bad-recipe`) what no recipe can hold before any weight is read for one."""
        assert self.base is not None
        members = [
            Member(asked.repo, asked.sha, f"{at:064x}", weight)  # the digest stands for one to come
            for at, (asked, weight) in enumerate(zip(self.job.members, plan.weights, strict=True))
            if weight
        ]
        Recipe(self.base.repo, self.base.sha, f"{0:064x}", tuple(members), self.job.dtype)

    def _facts(self, plan: SoupPlan) -> dict[str, object]:
        assert self.base is not None
        written = [job.out for job in plan.jobs if job.out is not None]
        return {
            "base": self.base.repo,
            "tensors": len(written),
            "dtypes": dict(Counter(spec.dtype for spec in written)),
            "ties": _ties(plan),
            "output_bytes": plan.output_bytes,
            "input_bytes": plan.input_bytes,
            "free_bytes": self.job.out and shutil.disk_usage(_existing(self.job.out)).free,
            "remarks": remarks(plan, donor=self._donor()),
        }

    def _donor(self) -> Path:
        assert self.base is not None
        return self.job.donor or self.base.weights

    def _write(self, plan: SoupPlan, out: Path, planning: float) -> None:
        extras = self._extras(plan)
        started = time.perf_counter()
        plan, recipe = self._named(plan) if self.job.hash else (plan, None)
        digesting = time.perf_counter() - started
        if recipe is not None:
            extras[RECIPE] = recipe.to_json().encode()
        report = write_soup(
            plan, out, threads=self.job.threads, hash=self.job.hash,
            verify=self.job.verify, extras=extras,
            progress=Teller(self.channel, what="written"),
        )  # fmt: skip
        self.channel.send(
            {
                "recipe": None if recipe is None else json.loads(recipe.to_json()),
                "recipe_digest": None if recipe is None else recipe.digest,
                "files": {name: asdict(file) for name, file in report.files.items()},
                "seconds": {"plan": planning, "digests": digesting, **asdict(report.seconds)},
            }
        )

    def _named(self, plan: SoupPlan) -> tuple[SoupPlan, Recipe]:
        """The plan with its members' digests, and the recipe that they make.

        Raises Refused: `duplicate-member`; `changed` where other digests were asked for.
        """
        assert self.base is not None
        used = [at for at, weight in enumerate(plan.weights) if weight]
        folders = {self.base.weights, *(plan.sources[at].folder for at in used)}
        digests = Digests(folders, self.job.threads, self.channel, self.names)
        sources, members = list(plan.sources), []
        for at in used:
            asked = self.job.members[at]
            found = digests.of(sources[at], asked.digest)
            sources[at] = replace(sources[at], digest=found)
            members.append(Member(asked.repo, asked.sha, found, plan.weights[at]))
        base = digests.of_folder(self.base.weights, self.base.digest)
        recipe = Recipe(self.base.repo, self.base.sha, base, tuple(members), self.job.dtype)
        return replace(plan, sources=tuple(sources)), recipe

    def _extras(self, plan: SoupPlan) -> dict[str, bytes | Path]:
        """The donor's texts, and how the soup was made, in mergekit's words."""
        donor = self._donor()
        names = [name for name in self.job.texts if os.path.lexists(donor / name)]
        extras: dict[str, bytes | Path] = {name: self._text(donor / name) for name in names}
        if CONFIG in extras and self.job.dtype is not None:
            extras[CONFIG] = _retyped(read_small(donor / CONFIG, MAX_CONFIG), self.job.dtype)
        extras[MERGEKIT] = self._mergekit(plan).encode()
        return extras

    def _text(self, path: Path) -> Path:
        """Where it lies: refused before weights are read, copied after them, never held."""
        assert self.base is not None
        try:
            os.close(open_small(path, MAX_TOKENIZER))
        except Refused as refused:
            raise refused.about(self.base.repo) from refused
        return path

    def _mergekit(self, plan: SoupPlan) -> str:
        assert self.base is not None
        asked = [m for m, weight in zip(self.job.members, plan.weights, strict=True) if weight]
        members = tuple(sorted((_pinned(m), Fraction(m.weight)) for m in asked))
        adapters = {_pinned(m) for m in asked if is_adapter(m.weights)}
        return blend_yaml(Blend(_pinned(self.base), members, self.job.dtype), adapters=adapters)


def _leader(members: Sequence[Ingredient]) -> Ingredient | None:
    """The first full checkpoint; none where adapters could lie on one or another."""
    folders = [m for m in members if not is_adapter(m.weights)]
    sure = len(folders) == len(members) or len(folders) == 1
    return folders[0] if sure else None


def _tensors(plan: SoupPlan) -> Iterator[list[Mapping[str, object]]]:
    lines = [
        {"name": out.name, "shape": list(out.shape), "dtype": out.dtype, "how": str(job.kind)}
        for job in plan.jobs
        if (out := job.out) is not None
    ]
    for first in range(0, len(lines), _AT_ONCE):
        yield list(lines[first : first + _AT_ONCE])


def _ties(plan: SoupPlan) -> dict[str, str]:
    """Head -> embedding, where the soup has no head of its own."""
    written = {job.out.name for job in plan.jobs if job.out is not None}
    ends = [head_and_embedding(source.layout) for source in plan.sources]
    embedding = next((e for _, e in ends if e in written), None)
    head = next((h for h, _ in ends if h is not None), "lm_head.weight")
    return {} if embedding is None or head in written else {head: embedding}


def _retyped(config: bytes, dtype: str) -> bytes:
    """The configuration, naming the dtype that the tensors were asked to have, at every depth.

    All else keeps its bytes: numbers that no double holds, and the infinity that no JSON has.
    """
    parse_json(config, CONFIG)

    def entry(found: re.Match[bytes]) -> bytes:
        key, colon, value = found.groups()
        if key is None or json.loads(key) not in ("dtype", "torch_dtype"):
            return found[0]
        return key + colon + b'"%b"' % dtype.encode() if json.loads(value) in DTYPES else found[0]

    return _ENTRY.sub(entry, config)


def _existing(path: Path) -> Path:
    """The nearest folder, which is the root at the latest."""
    return next(folder for folder in (path, *path.parents) if os.path.isdir(folder))


@contextmanager
def _folders_above(out: Path) -> Iterator[None]:
    """Make them; after an error those that are new and still empty are gone again."""
    new = [folder for folder in out.parents if not os.path.lexists(folder)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Exception:
        for folder in new:
            with suppress(OSError):  # never made, or another's by now
                folder.rmdir()
        raise


def _misplaced(job: Soup, error: OSError) -> Refused:
    """A folder that may not be read or written, or that cannot be there, as a refusal."""
    path = Path(error.filename)
    known = (*job.members, *([] if job.base is None else [job.base]))
    ours = any(path.is_relative_to(one.weights) for one in known)
    remedy = "give a folder that you may read" if ours else "choose another folder to write to"
    detail = os.strerror(error.errno or 0)
    return Refused(Code.UNSAFE_FILE, str(path), detail, remedy)


def _pinned(ingredient: Ingredient) -> str:
    return f"{ingredient.repo}@{ingredient.sha}" if ingredient.sha else ingredient.repo


def _plain(refused: Refused) -> dict[str, str]:
    return {
        "code": str(refused.code), "subject": refused.subject,
        "detail": refused.detail, "remedy": refused.remedy,
    }  # fmt: skip
