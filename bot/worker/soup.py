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

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

from bot.worker.digests import Digests
from bot.worker.jobs import Ingredient, Soup
from bot.worker.protocol import Channel
from bot.worker.teller import Teller
from merge.checkpoint import MAX_CONFIG, MAX_TOKENIZER, open_small, parse_json, read_small
from merge.compat import head_and_embedding
from merge.errors import Refused
from merge.lora import is_adapter
from merge.mergekit import Blend, blend_yaml
from merge.plan import refusals
from merge.recipe import DTYPES, Member, Recipe
from merge.remarks import remarks
from merge.soup import SoupPlan, check_disk, plan_soup, write_soup

_AT_ONCE = 500  # tensors in one message
_MOST = 1000  # refusals in one message
RECIPE, MERGEKIT, CONFIG = "recipe.json", "mergekit.yaml", "config.json"


def run(job: Soup, channel: Channel) -> None:
    try:
        _Cook(job, channel).run()
    except Refused as refused:
        channel.send({"refusals": [_plain(refused)]})


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
        if not self.job.write:
            for some in _tensors(plan):
                self.channel.send({"tensors": some})
        seconds = time.perf_counter() - started
        self.channel.send({"plan": {**self._facts(plan), "seconds": seconds}})
        self._check_room(plan)
        if self.job.write and self.job.out is not None:
            self._write(plan, self.job.out, seconds)

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

    def _check_room(self, plan: SoupPlan) -> None:
        """Refuse a taken output or a full disk before any weight is read."""
        out = self.job.out
        if out is not None and self.job.write:
            out.parent.mkdir(parents=True, exist_ok=True)
        if out is not None and out.parent.is_dir():
            check_disk(plan, out)

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
        started = time.perf_counter()
        plan, recipe = self._named(plan) if self.job.hash else (plan, None)
        digesting = time.perf_counter() - started
        report = write_soup(
            plan, out, threads=self.job.threads, hash=self.job.hash,
            verify=self.job.verify, extras=self._extras(plan, recipe),
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

    def _extras(self, plan: SoupPlan, recipe: Recipe | None) -> dict[str, bytes | Path]:
        """The donor's texts, and how the soup was made."""
        donor = self._donor()
        names = [name for name in self.job.texts if os.path.lexists(donor / name)]
        extras: dict[str, bytes | Path] = {name: self._text(donor / name) for name in names}
        if CONFIG in extras and self.job.dtype is not None:
            extras[CONFIG] = _retyped(read_small(donor / CONFIG, MAX_CONFIG), self.job.dtype)
        extras[MERGEKIT] = self._mergekit(plan).encode()
        if recipe is not None:
            extras[RECIPE] = recipe.to_json().encode()
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
    folders = [m for m in members if not (m.weights.is_dir() and is_adapter(m.weights))]
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
    """The configuration, naming the dtype that the tensors were asked to have."""
    found = parse_json(config, CONFIG)
    named = {key: dtype for key in ("dtype", "torch_dtype") if found.get(key) in DTYPES}
    if all(found[key] == dtype for key in named):
        return config
    return json.dumps({**found, **named}, indent=2).encode() + b"\n"


def _existing(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.is_dir())


def _pinned(ingredient: Ingredient) -> str:
    return f"{ingredient.repo}@{ingredient.sha}" if ingredient.sha else ingredient.repo


def _plain(refused: Refused) -> dict[str, str]:
    return {
        "code": str(refused.code), "subject": refused.subject,
        "detail": refused.detail, "remedy": refused.remedy,
    }  # fmt: skip
