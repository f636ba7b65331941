"""One child process seen from the daemon: its lines, its limits, its end.

A watcher thread reads both pipes and the clock and the memory, so the caller never waits on a
process that is gone, and a child that nobody listens to is still ended in time.
"""

import os
import select
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Self

from bot.spawn import Pipes, Process
from bot.worker.jobs import Job, job_message
from bot.worker.processes import held_memory, kill_tree, tree
from bot.worker.protocol import MAX_LINE, Message, ProtocolError, decode, encode

_TICK = 0.1  # seconds between looks at the clock
_MEMORY_TICK = 0.25  # seconds between looks at the memory; a look reads all of /proc
_STDERR_KEPT = 64 * 2**10  # bytes
_WAITING = 2 * MAX_LINE  # bytes read ahead of the caller before the pipe is left to fill


class ChildError(Exception):
    """Root of what can become of a child; never raised itself."""


class ChildFailed(ChildError):
    """The child names a reason. `code` as in `merge.errors.Code`, or one of the worker's own."""

    def __init__(self, code: str, message: str, subject: str = "", detail: str = "") -> None:
        self.code, self.message, self.subject, self.detail = code, message, subject, detail
        super().__init__(f"{code}: {message}")


class ChildDied(ChildError):
    """It ended without a word. `status` as in Popen.returncode; `stderr`: its last output."""

    def __init__(self, status: int, stderr: str) -> None:
        self.status, self.stderr = status, stderr
        last = stderr.strip().splitlines()[-1:] or ["nothing on standard error"]
        super().__init__(f"the child ended with status {status}: {last[0][:500]}")


class ChildTimeout(ChildError):
    """It was ended at its deadline."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the child was ended after {seconds:g} s")


class ChildTooBig(ChildError):
    """It was ended above its memory, or sent a line above the cap; `limit` in bytes."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit = what, limit
        super().__init__(f"the child was ended: {what} above {limit:,} bytes")


class Child:
    """A running job. A context manager that ends the child on the way out."""

    def __init__(
        self, process: Process, pipes: Pipes, home: Path, on_close: Callable[["Child"], None]
    ) -> None:
        self._process, self._pipes, self._home, self._on_close = process, pipes, home, on_close
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._received = self._taken = 0  # bytes put into the queue, and out of it
        self._rest = b""  # an unfinished line
        self._stderr = b""
        self._verdict: ChildError | None = None
        self._due = float("inf")
        self._deadline = self._due
        self._memory_limit: int | None = None
        self._lock = Lock()  # kill before reaping, never after: the number may be another's
        self._status: int | None = None
        self._sandbox: Mapping[str, bool] | None = None
        self._watcher = Thread(target=self._watch, name=f"child-{process.pid}", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._watcher.is_alive()

    @property
    def sandbox(self) -> Mapping[str, bool]:
        """What the kernel granted, by the fields of `bot.worker.sandbox.Sandbox`."""
        if self._sandbox is None:
            report = self.receive().get("sandbox")
            if not isinstance(report, dict):
                raise self._end(ChildFailed("protocol", "the child did not report its sandbox"))
            self._sandbox = {str(key): value is True for key, value in report.items()}
        return self._sandbox

    def begin(self, job: Job, *, deadline: float, memory_limit: int, threads: int) -> None:
        """Hand over the job; deadline in seconds from now, memory in bytes. Called once."""
        self._deadline, self._memory_limit = deadline, memory_limit
        self._due = time.monotonic() + deadline
        _ = self.sandbox  # the child is up, and locked
        # Behind the watch stands the kernel, with room for what the watch counts differently.
        cpu_seconds = int(deadline * threads) + 60
        limits = {"cpu_seconds": cpu_seconds, "memory_bytes": 2 * memory_limit + 2**30}
        self.send({"job": job_message(job), "limits": limits})

    def send(self, message: Mapping[str, object]) -> None:
        """Raises LineTooLong, or the child's end."""
        line = memoryview(encode(message))
        try:
            while line:
                line = line[self._pipes.stdin.write(line) :]
        except BrokenPipeError:
            raise self._farewell() from None

    def ask(self, message: Mapping[str, object]) -> Message:
        """Send one message and wait for its answer."""
        self.send(message)
        return self.receive()

    def receive(self) -> Message:
        """The next message of the job. Raises a ChildError where there is none."""
        message = self._next()
        error = message.get("error")
        if isinstance(error, dict):
            facts = (str(error.get(key, "")) for key in ("code", "message", "subject", "detail"))
            raise self._end(ChildFailed(*facts))
        return message

    def lines(self) -> Iterator[Message]:
        """The job's messages up to its end. Raises a ChildError unless the child says "done"."""
        while "done" not in (message := self.receive()):
            yield message

    def close(self) -> None:
        """End the child and all it started, and remove its home. Safe to call twice."""
        self._kill()
        self._watcher.join()
        self._pipes.close()
        shutil.rmtree(self._home, ignore_errors=True)
        self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Message:
        line = self._lines.get()
        if line is None:
            self._lines.put(None)  # it stays ended for the next caller
            raise self._why()
        self._taken += len(line)
        try:
            return decode(line)
        except ProtocolError as error:
            raise self._end(ChildFailed("protocol", str(error))) from None

    def _farewell(self) -> ChildError:
        """What the child still said before it stopped listening."""
        while True:
            try:
                self.receive()
            except ChildError as error:
                return error

    def _why(self) -> ChildError:
        self._watcher.join()
        if self._verdict is None:
            assert self._status is not None
            self._verdict = ChildDied(self._status, self._stderr.decode(errors="replace"))
        return self._verdict

    def _end(self, verdict: ChildError) -> ChildError:
        self._verdict = self._verdict or verdict
        self._kill()
        return self._verdict

    def _kill(self) -> None:
        with self._lock:
            if self._status is None:
                kill_tree(self._process.pid)

    def _watch(self) -> None:
        out, err = self._pipes.stdout.fileno(), self._pipes.stderr.fileno()
        pipes, memory_due = {out, err}, 0.0
        while not self._process.ended():
            full = self._received - self._taken > _WAITING
            self._read(pipes, out, {out} if full else set(), _TICK)
            now = time.monotonic()
            if now > self._due:
                self._end(ChildTimeout(self._deadline))
            elif self._memory_limit is not None and now > memory_due:
                memory_due = now + _MEMORY_TICK
                if held_memory(tree(self._process.pid)) > self._memory_limit:
                    self._end(ChildTooBig("memory", self._memory_limit))
        with self._lock:
            kill_tree(self._process.pid)  # what it left behind
            self._status = self._process.reap()
        last_words = time.monotonic() + 1.0
        while pipes and time.monotonic() < last_words:
            self._read(pipes, out, set(), _TICK)
        self._lines.put(None)

    def _read(self, pipes: set[int], out: int, paused: set[int], seconds: float) -> None:
        """Take what the pipes hold, waiting up to `seconds`; pipes at their end leave the set."""
        poll = select.poll()
        for pipe in pipes - paused:
            poll.register(pipe, select.POLLIN)
        for pipe, _ in poll.poll(seconds * 1000):
            data = os.read(pipe, 2**16)
            if not data:
                pipes.discard(pipe)
            elif pipe == out:
                self._cut_lines(data)
            else:
                self._stderr = (self._stderr + data)[-_STDERR_KEPT:]

    def _cut_lines(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._received += len(line)
            self._lines.put(line)
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            self._end(ChildTooBig("one message", MAX_LINE))
