"""Doctor: is this installation fit to be left alone? Looks at everything, mends nothing.

Only the database is created or brought to today's schema, and the configured bases entered, as by
any other command.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.config import Settings
from bot.daemon import open_hub, open_store, register
from bot.errors import Fault, Misconfigured
from bot.executors import ChildError, LocalExecutor
from bot.gate import detectable_gain, is_cross_fitted, level_of
from bot.hub import Hub
from bot.sections import BaseSection
from bot.world import Base
from db.engine import Unusable
from db.reader import Reader
from db.store import Store
from merge.gate import TOO_BLUNT
from merge.splits import Split

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `finding` says what was seen and, if not ok, what to do."""

    what: str
    ok: bool
    finding: str


def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which a fault in one explains those after it."""
    return list(_checks(settings))


def _checks(settings: Settings) -> Iterator[Check]:
    yield _user(settings)
    yield _disk(settings.data)
    if settings.database.startswith("sqlite"):
        yield _file_system(Path(settings.database.removeprefix("sqlite:///")))
    try:
        store = open_store(settings)
    except Unusable as error:
        yield Check("database", False, str(error))
        return
    yield Check("database", True, "opens, is undamaged, has today's schema")
    yield from _hub(settings)
    yield _sandbox(settings)
    if not settings.bases:
        yield Check("bases", False, "none is configured: add a [[bases]] section")
    for section in settings.bases:
        yield _detectable(store, section)


def _user(settings: Settings) -> Check:
    root = os.geteuid() == 0
    if root and not settings.allow_root:
        return Check("user", False, "running as root: use an ordinary user, or --allow-root")
    return Check("user", True, "root, as allowed" if root else "not root")


def _disk(data: Path) -> Check:
    there = next(folder for folder in (data, *data.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    ok = free > 10e9 and os.access(there, os.W_OK)
    return Check("data folder", ok, f"{data}: {free / 1e9:.0f} GB free")


def _file_system(database: Path) -> Check:
    """SQLite's write-ahead log needs shared memory, which network file systems do not give."""
    kind = _mounted_as(database.parent.resolve())
    ok = kind not in NETWORK_FILE_SYSTEMS
    hint = "" if ok else ": put the database on a local disk, or use PostgreSQL"
    return Check("file system of the database", ok, f"{kind}{hint}")


def _mounted_as(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    fitting = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(fitting, key=lambda mount: len(mount[0]), default=("/", "unknown"))[1]


def _hub(settings: Settings) -> Iterator[Check]:
    try:
        hub = open_hub(settings)
        if hub.token is None:
            yield Check("token", False, "none: set BOT_TOKEN (not HF_TOKEN), or name a token_file")
        else:
            yield Check("token", True, f"accepted for {hub.whoami().name}")
        for section in settings.bases:
            yield from _repositories(hub, section)
    except (Fault, Misconfigured) as error:
        yield Check("Hub", False, f"{settings.endpoint}: {error}")


def _repositories(hub: Hub, section: BaseSection) -> Iterator[Check]:
    head = hub.head(section.repo)
    moved = "" if head == section.sha else f"; the Hub has {head}, the pin stays"
    yield Check(f"base {section.repo}", head is not None, f"pinned at {section.sha[:12]}{moved}")
    targets = [section.target, *([section.router.target] if section.router else [])]
    for target in targets:
        ok = hub.can_write(target)
        finding = "may be written" if ok else "may not be written with this token"
        yield Check(f"target {target}", ok, finding)


def _sandbox(settings: Settings) -> Check:
    """Start one child and read what the kernel granted it."""
    try:
        with LocalExecutor(settings.data, token_file=settings.token_file) as executor:
            granted = executor.probe()
    except ChildError as error:
        return Check("child processes", False, str(error))
    missing = [name.replace("_", " ") for name, held in granted.items() if not held]
    if missing:
        finding = f"run, but without {', '.join(missing)}: allow user namespaces if you can"
        if "tokens covered" in missing:
            finding += "; until then give the token in BOT_TOKEN, not in a file"
        held = granted.get("sockets_refused") and granted.get("tokens_covered")
        return Check("child processes", bool(held), finding)
    return Check("child processes", True, "run locked up: " + ", ".join(granted))


def _detectable(store: Store, section: BaseSection) -> Check:
    """The smallest gain that the next look publishes four times in five, and on which items."""
    try:
        base = register(store, section)
    except Misconfigured as error:
        return Check(f"benchmark of {section.repo}", False, str(error))
    looks = Reader(store.engine).looks_taken(base.id, base.benchmark.id)
    k = looks + 1
    gain, items = detectable_gain(base, k), sum(base.benchmark.sizes(Split.REPORT).values())
    finding = (
        f"look {k} at level {level_of(base, k):.4f} detects a gain of {100 * gain:.1f} points "
        f"(power 0.8, a tenth of the items differing; {items} items{_rounds(base, k)})"
    )
    if gain >= TOO_BLUNT:
        finding += f": used up, give {base.benchmark.suite.name} new items"
    return Check(f"report split of {section.repo}", gain < TOO_BLUNT, finding)


def _rounds(base: Base, k: int) -> str:
    if not is_cross_fitted(base, k):
        return ""
    tune = sum(base.benchmark.sizes(Split.TUNE).values())
    return f", and {tune} tune items in a second round"
