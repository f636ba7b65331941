"""The jobs a child can be given: frozen values, read strictly.

A missing, unknown or wrongly typed field is a ProtocolError that names it. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import ClassVar, TypeVar, get_type_hints

from bot.worker.fields import Read, many, number, of, or_none, path, text
from bot.worker.protocol import Message, ProtocolError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Member:
    """One ingredient of a soup: a folder of weights and its exact share, such as "4/10"."""

    weights: Path
    weight: str


@dataclass(frozen=True)
class Evaluate:
    """Score one set of weights. `config`: trusted config.json and tokenizer; `shares` as for
    `bot.suites.Suite.splits`; `categories`: all where absent."""

    task: ClassVar = "evaluate"
    weights: Path
    config: Path
    suite: str
    seed: int
    shares: tuple[float, ...]
    split: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trials:
    """Serve a weight search over these members, in this order."""

    task: ClassVar = "trials"
    members: tuple[Path, ...]
    config: Path
    suite: str
    seed: int
    shares: tuple[float, ...]
    split: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Examine:
    """Look at a stranger's tensors beside the base's."""

    task: ClassVar = "examine"
    weights: Path
    base: Path


@dataclass(frozen=True)
class Build:
    """Write a soup to `out`. `base` gives names and shapes; `dtype`: the base's where absent."""

    task: ClassVar = "build"
    members: tuple[Member, ...]
    base: Path
    out: Path
    dtype: str | None = None


@dataclass(frozen=True)
class Ingredient:
    """A member of a soup made by hand. repo, sha: what the recipe calls it; sha is "" for a folder.
    digest: the content digest it must have, where a recipe says so."""

    weights: Path
    weight: str
    repo: str
    sha: str
    digest: str | None = None


@dataclass(frozen=True)
class Soup:
    """Plan a soup and, if `write`, make it in `out`.

    base: gives names, shapes and dtypes; its weight is not used, and the first member that is a
    full checkpoint stands in for it. donor: where the small files called `texts` are copied from,
    the base's folder where absent. hash: name members and files by content. negative: allow
    negative weights.
    """

    task: ClassVar = "soup"
    members: tuple[Ingredient, ...]
    texts: tuple[str, ...]
    write: bool
    hash: bool
    verify: bool
    negative: bool
    threads: int
    out: Path | None = None
    base: Ingredient | None = None
    donor: Path | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Calibrate:
    """Calibrate a router on a base and an aligned model of one vocabulary.

    `config`, `base_config`: configuration and tokenizer of the aligned model, and of the base where
    it has its own.
    `base_pin`, `aligned_pin`: "ORG/NAME@SHA", how the router will name them. `prompts`: JSON lines
    with "prompt" and "split" (calibrate or held-out). `preset`: which one is the default.
    `prompt_formats`: the base's, or those to choose among. `temperatures`, `min_p_temperatures`:
    of the aligned model alone. `rounds`: a folder with what an earlier try has measured.
    `quality`, `encoder`: "package.module:function" of a scorer and of what embeds texts; the
    aligned model's likelihood and hidden states where absent.
    """

    task: ClassVar = "calibrate"
    base: Path
    base_pin: str
    aligned: Path
    aligned_pin: str
    config: Path
    prompts: Path
    router: str
    shares: tuple[float, ...]
    preset: str
    seed: int
    prompt_formats: tuple[str, ...]
    samples_per_prompt: int
    max_new_tokens: int
    temperatures: tuple[float, ...]
    min_p_temperatures: tuple[float, ...]
    base_config: Path | None = None
    rounds: Path | None = None
    quality: str | None = None
    encoder: str | None = None


@dataclass(frozen=True)
class Generate:
    """Write texts of one prompt with a base and an aligned model, each a folder of its own.

    router: by name, or config: the text of a router.json. base_share: None for what the router is
    set to. execution: None for the fastest one that the pair allows. *_sha: the Hub's commit.
    """

    task: ClassVar = "generate"
    base: Path
    aligned: Path
    prompt: str
    samples: int
    temperature: float
    max_new_tokens: int
    seed: int
    prompt_format: str
    router: str | None = None
    config: str | None = None
    preset: str | None = None
    base_share: float | None = None
    execution: str | None = None
    base_sha: str | None = None
    aligned_sha: str | None = None


@dataclass(frozen=True)
class Picture:
    """Draw one picture from figures alone; `data` as described in `bot.worker.picture`."""

    task: ClassVar = "picture"
    kind: str
    data: Mapping[str, object]
    out: Path


Job = Evaluate | Trials | Examine | Build | Soup | Calibrate | Generate | Picture
JOBS: Mapping[str, type[Job]] = {
    job.task: job for job in (Evaluate, Trials, Examine, Build, Soup, Calibrate, Generate, Picture)
}


@dataclass(frozen=True)
class Limits:
    """What the kernel enforces in the child, beside the daemon's own watch."""

    cpu_seconds: int
    memory_bytes: int


def read_job(raw: object) -> Job:
    """A job from its JSON object. Raises ProtocolError naming the task and the field."""
    if not isinstance(raw, dict):
        raise ProtocolError("a job must be an object")
    job = JOBS.get(str(raw.get("task")))
    if job is None:
        raise ProtocolError(f"unknown task {raw.get('task')!r}")
    return _read(job, {key: value for key, value in raw.items() if key != "task"}, job.task)


def read_limits(raw: object) -> Limits:
    """Raises ProtocolError naming the field."""
    return _read(Limits, raw, "limits")


def job_message(job: Job) -> Message:
    """The JSON object that `read_job` reads back."""
    return {"task": job.task} | _fields(job)


def _fields(value: Job | Member | Ingredient) -> Message:
    return {
        field.name: _plain(one)
        for field in fields(value)
        if (one := getattr(value, field.name)) is not None
    }


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Member | Ingredient):
        return _fields(value)
    return value


def _read(kind: type[_T], raw: object, where: str) -> _T:
    if not isinstance(raw, dict):
        raise ProtocolError(f"{where}: must be an object")
    known, hints = fields(kind), get_type_hints(kind)  # type: ignore[arg-type]
    if unknown := sorted(raw.keys() - {field.name for field in known}):
        raise ProtocolError(f"{where}: unknown field {unknown[0]!r}")
    values: dict[str, object] = {}
    for field in known:
        if field.name in raw:
            values[field.name] = _READ[hints[field.name]](raw[field.name], f"{where}: {field.name}")
        elif field.default is MISSING:
            raise ProtocolError(f"{where}: field {field.name!r} is missing")
    return kind(**values)


_READ: Mapping[object, Read] = {
    str: text,
    int: of(int, "a whole number"),
    bool: of(bool, "true or false"),
    Path: path,
    str | None: or_none(text),
    float: number,
    float | None: or_none(number),
    Path | None: or_none(path),
    tuple[str, ...]: many(text),
    tuple[str, ...] | None: or_none(many(text)),
    tuple[float, ...]: many(number),
    tuple[Path, ...]: many(path),
    tuple[Member, ...]: many(lambda value, where: _read(Member, value, where)),
    tuple[Ingredient, ...]: many(lambda value, where: _read(Ingredient, value, where)),
    Ingredient | None: or_none(lambda value, where: _read(Ingredient, value, where)),
    Mapping[str, object]: of(dict, "an object"),
}
