"""Heavy steps run in a child process; this is the daemon's side of it.

`LocalExecutor.start(job)` gives a `Child`: iterate `lines()` for a job that reports by itself, or
`ask()` a job that answers (a weight search). A child leads a session and process group of its own,
dies with the executor, sees an allow-listed environment and a private home folder, and is ended
with everything it started at its deadline, above its memory, and at `close()`.

With `warm`, children are forked from a template that has loaded torch and the harness already
(`bot.spawn`): milliseconds and no second copy of the code, in place of seconds for every job.

    ChildError
    ├── ChildFailed    the child says why (code, message); the same input fails again
    ├── ChildDied      it ended without a word: a signal, the kernel's memory killer, a crash
    ├── ChildTimeout   it was ended at its deadline
    └── ChildTooBig    it was ended above its memory, or sent a line above the cap

They are facts about one child, not verdicts: the handler turns them into the daemon's own errors.
Linux only. Not promised: that a child which answers answers truly.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol, Self

from bot.child import Child, ChildDied, ChildError, ChildFailed, ChildTimeout, ChildTooBig
from bot.secret import token_files
from bot.spawn import Cold, Pipes, Process, Template, TemplateDied
from bot.worker.jobs import Job, job_message, read_job

__all__ = [
    "Child",
    "ChildDied",
    "ChildError",
    "ChildFailed",
    "ChildTimeout",
    "ChildTooBig",
    "Executor",
    "LocalExecutor",
]

COMMAND = (sys.executable, "-P", "-s", "-m", "bot.worker")
_PACKAGES = Path(__file__).resolve().parents[1]  # where the child finds the code we run
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TZ")


class Executor(Protocol):
    """Where heavy steps run."""

    def start(
        self,
        job: Job | Mapping[str, object],
        *,
        deadline: float | None = None,
        memory_limit: int | None = None,
    ) -> Child: ...

    def close(self) -> None: ...


class LocalExecutor:
    """Children on this machine.

    data: folder for the children's private homes; leftovers of executors that died are removed.
    deadline: seconds from a job's start to its end, unless `start` says otherwise.
    memory_limit: bytes over the child and all its descendants, unless `start` says otherwise.
    threads: processor threads for the child's arithmetic.
    token_file: the bot's; children can read neither it nor a person's, where the kernel lets us.
    command: what to run as a child.
    """

    def __init__(
        self,
        data: Path,
        *,
        deadline: float = 3600.0,
        memory_limit: int = 16 * 2**30,
        warm: bool = False,
        threads: int = 1,
        token_file: Path | None = None,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self._deadline, self._memory_limit = deadline, memory_limit
        self._threads, self._environment = threads, _child_environment(threads)
        self._command = (*command, *(f"--cover={file}" for file in token_files(token_file)))
        self._warm = warm
        self._homes, self._claim = _claim_folder(data / "children")
        # The signal that ends a child with its parent follows the thread that started it, so one
        # thread starts them all and lives as long as the executor.
        self._spawner = ThreadPoolExecutor(1, "child-spawner")
        self._lock = Lock()
        self._children: set[Child] = set()
        self._template: Future[Template] | None = None
        if warm:
            self._template = self._spawner.submit(self._warm_up)

    def start(
        self,
        job: Job | Mapping[str, object],
        *,
        deadline: float | None = None,
        memory_limit: int | None = None,
    ) -> Child:
        """Give `job` to a child. Raises ProtocolError for a job that is none, ChildDied where the
        child does not come up."""
        job = read_job(job) if isinstance(job, Mapping) else read_job(job_message(job))
        child = self._spawn()
        try:
            child.begin(
                job,
                deadline=self._deadline if deadline is None else deadline,
                memory_limit=self._memory_limit if memory_limit is None else memory_limit,
                threads=self._threads,
            )
        except BaseException:
            child.close()  # nobody else knows of it yet
            raise
        return child

    def probe(self) -> Mapping[str, bool]:
        """What the kernel grants a child (`Child.sandbox`), found out by starting one."""
        with self._spawn() as child:
            return child.sandbox

    def close(self) -> None:
        """End every child, spare included. Safe to call twice."""
        self._spawner.shutdown(wait=False, cancel_futures=True)
        for child in tuple(self._children):
            child.close()
        if self._template is not None and not self._template.cancelled():
            _end(self._template)
        self._spawner.shutdown()
        for child in tuple(self._children):  # one may have been starting
            child.close()
        shutil.rmtree(self._homes, ignore_errors=True)
        self._claim.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self) -> Child:
        ours, theirs = Pipes.open()
        home = Path(tempfile.mkdtemp(prefix="child-", dir=self._homes))
        try:
            process = self._fork(home, theirs) if self._warm else self._start(home, theirs)
        except BaseException:
            ours.close()
            shutil.rmtree(home, ignore_errors=True)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        child = Child(process, ours, home, self._forget)
        with self._lock:
            self._children.add(child)
        return child

    def _start(self, home: Path, theirs: tuple[int, int, int]) -> Process:
        return self._spawner.submit(Cold, self._command, self._environment, home, theirs).result()

    def _fork(self, home: Path, theirs: tuple[int, int, int]) -> Process:
        """From the template; from a new one where the old one is gone or never came up."""
        assert self._template is not None
        template = self._template
        if template.exception() is None:
            try:
                return template.result().fork(home, theirs)
            except TemplateDied:
                pass
        with self._lock:
            if self._template is template:
                _end(template)
                self._template = self._spawner.submit(self._warm_up)
        return self._template.result().fork(home, theirs)

    def _warm_up(self) -> Template:
        home = Path(tempfile.mkdtemp(prefix="template-", dir=self._homes))
        try:
            return Template(self._command, self._environment, home)
        except OSError:
            shutil.rmtree(home, ignore_errors=True)
            raise

    def _forget(self, child: Child) -> None:
        with self._lock:
            self._children.discard(child)


def _end(template: Future[Template]) -> None:
    """Wait until it has started, and end it where it did."""
    if template.exception() is None:
        template.result().close()


def _child_environment(threads: int) -> dict[str, str]:
    """Everything a child sees, beside its home; nothing else is inherited."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **kept,
        **dict.fromkeys(counts, str(threads)),
        # Threads that spin while they wait for one whose core is busy cost tens of times the work.
        "OMP_WAIT_POLICY": "passive",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_PACKAGES),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "Agg",
    }


def _claim_folder(folder: Path) -> tuple[Path, BinaryIO]:
    """A folder of our own below `folder`, held by a lock that ends with this process; folders
    whose lock nobody holds are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        with suppress(OSError), (old / "held").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old)
    ours = Path(tempfile.mkdtemp(prefix="executor-", dir=folder))
    claim = (ours / "held").open("wb")
    fcntl.flock(claim, fcntl.LOCK_EX)
    return ours, claim
