"""Wiring: from settings to a running coordinator. The only place, with the command line, that
constructs things.

APScheduler only rings: its ticks and signals wake the loop, which does the work. The token is read
once and kept out of the environment, which a child could read through /proc; the process is made
unreadable to others of the same user, and refuses to run as root unless told to.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

from apscheduler.schedulers.background import BackgroundScheduler

from bot import errors
from bot.admit import admit
from bot.build import build
from bot.calibrate import calibrate, pair_digest
from bot.config import Settings
from bot.drafts import draft
from bot.evaluate import evaluate
from bot.executors import LocalExecutor
from bot.failures import MAX_INTERRUPTIONS, pause_after
from bot.health import health_page
from bot.hub import Hub
from bot.judge import judge
from bot.loop import LEASE, Loop
from bot.publish import publish
from bot.search import search
from bot.sections import BaseSection
from bot.select import select
from bot.suites import items, load_suite
from bot.watch import watch
from bot.world import Base, Benchmark, Handler, World, utc_now
from db.engine import Unavailable, migrate, open_engine
from db.lease import Lease, LeaseLost
from db.reader import Reader
from db.store import Store
from merge.splits import Split

log = logging.getLogger(__name__)

HANDLERS: dict[str, Handler] = {
    "watch": watch,
    "admit": admit,
    "evaluate": evaluate,
    "select": select,
    "search": search,
    "build": build,
    "judge": judge,
    "calibrate": calibrate,
    "draft": draft,
    "publish": publish,
}
TICK_SECONDS = 5
PR_SET_DUMPABLE = 4


def open_store(settings: Settings) -> Store:
    """The database with today's schema."""
    engine = open_engine(settings.database)
    migrate(engine)
    return Store(engine)


def open_hub(settings: Settings) -> Hub:
    return Hub(settings.endpoint, settings.read_token(), settings.data / "downloads")


@contextmanager
def coordinator(settings: Settings, *, wait: bool = False) -> Iterator[Loop]:
    """A loop that holds the lease. With `wait`, stands by until the lease is free.

    Raises:
        errors.Misconfigured: another coordinator holds the lease and `wait` is off.
    """
    store = open_store(settings)
    lease = _take_lease(store, wait)
    found = store.settle_interrupted(lease, utc_now(), MAX_INTERRUPTIONS, pause_after)
    if found:
        log.warning("%d steps were running when the last coordinator ended", found)
    executor = LocalExecutor(
        settings.data,
        deadline=settings.child_seconds,
        memory_limit=int(settings.child_gb * 1e9),
        warm=settings.warm_children,
        token_file=settings.token_file,
    )
    loop: Loop | None = None
    try:
        with executor:
            world = open_world(settings, store, lease, executor)
            loop = Loop(store, lease, world, HANDLERS, pair_digest)
            yield loop
    finally:
        if loop is not None:
            loop.put_down()
        with suppress(Unavailable):  # then it runs out by itself
            store.release_lease(lease, utc_now())
        store.engine.dispose()


def open_world(settings: Settings, store: Store, lease: Lease, executor: LocalExecutor) -> World:
    """Everything that handlers may use, with bases and benchmarks registered."""

    def fence() -> None:
        try:
            store.check_lease(lease)
        except LeaseLost as error:
            raise errors.LeaseLost from error

    bases = {section.repo: register(store, section) for section in settings.bases}
    for base in bases.values():
        store.judge_by(lease, base.id, base.benchmark.id)
    return World(
        settings=settings,
        reader=Reader(store.engine),
        hub=open_hub(settings),
        executor=executor,
        bases=bases,
        fence=fence,
    )


def register(store: Store, section: BaseSection) -> Base:
    """The base and its benchmark as database rows."""
    suite = load_suite(section.benchmark)
    splits = suite.splits(section.seed, section.shares)
    by_split = {split: items(suite, splits, split) for split in Split}
    counts = {
        category.name: {str(split): len(found[category.name]) for split, found in by_split.items()}
        for category in suite.categories
    }
    empty = [name for name, sizes in counts.items() if 0 in sizes.values()]
    if empty:
        raise errors.Misconfigured(
            f"benchmark {suite.name}: category {empty[0]} has no items in one of the splits; "
            "add items or change `shares`"
        )
    if section.category_weights and set(section.category_weights) != set(counts):
        odd = sorted(set(section.category_weights) ^ set(counts))
        raise errors.Misconfigured(
            f"category_weights and the categories of {suite.name} differ in {', '.join(odd)}"
        )
    benchmark_id = store.register_benchmark(
        name=suite.name,
        digest=suite.digest,
        splits_digest=splits.digest,
        seed=section.seed,
        shares=section.shares,
        items=counts,
        judging=splits.marks(Split.TUNE, Split.REPORT),  # two rounds report on tune items, too
        now=utc_now(),
    )
    benchmark = Benchmark(benchmark_id, suite, splits, section.benchmark)
    return Base(store.register_base(section.repo, section.sha, utc_now()), section, benchmark)


def run(settings: Settings, *, once: bool = False) -> None:
    """`bot run`: until SIGTERM or SIGINT, or with `once` until nothing is due."""
    harden(settings)
    if once:
        settings = settings.model_copy(update={"settle_seconds": 0.0})
    with (
        coordinator(settings, wait=not once) as loop,
        ringing(loop),
        health_page(loop, settings.health_port),
    ):
        if once:
            run_once(loop)
        else:
            loop.run()


def run_once(loop: Loop) -> None:
    """One whole cycle, listings included however long ago the last ones were."""
    loop.store.ask("cycle", None, None, False, utc_now())
    loop.run_until_quiet()


@contextmanager
def ringing(loop: Loop) -> Iterator[None]:
    """Ticks and signals wake or stop the loop while the block runs."""
    scheduler = BackgroundScheduler()
    scheduler.add_job(loop.wake, "interval", seconds=TICK_SECONDS, coalesce=True, max_instances=1)
    scheduler.start()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.stop())
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


def harden(settings: Settings) -> None:
    """Keep the token from children and from other processes of this user.

    Raises:
        errors.Misconfigured: run as root without `allow_root`.
    """
    if os.geteuid() == 0 and not settings.allow_root:
        raise errors.Misconfigured(
            "running as root: a child that breaks out would be root too; "
            "use an ordinary user, or --allow-root"
        )
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _take_lease(store: Store, wait: bool) -> Lease:
    name = f"{socket.gethostname()}:{os.getpid()}"
    holder = f"{name}:{_numbering()}:{secrets.token_hex(4)}"
    told = False
    while True:
        try:
            lease = store.take_lease(holder, utc_now(), LEASE, _is_dead)
        except Unavailable as error:  # who stands by for months sees that at times
            if not wait:
                raise
            log.warning("%s", error)
            lease = None
        if lease is not None:
            return lease
        if not wait:
            raise errors.Misconfigured("another coordinator is at work; it serves requests too")
        if not told:
            log.info("another coordinator is at work; standing by")
            told = True
        sleep(1)


def _is_dead(holder: str) -> bool:
    """A process that is gone need not be waited for, if it can be told that it is: host names may
    be equal, and in containers everybody is process 1."""
    match holder.split(":"):
        case [_, pid, numbering, _] if numbering and numbering == _numbering():
            return int(pid) == os.getpid() or not _runs(int(pid))  # the number is ours now
    return False


def _numbering() -> str:
    """Within what process numbers are told apart: this start of the machine and this namespace.
    Empty where the kernel does not say."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(f"{start} {namespace}".encode()).hexdigest()[:12]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
