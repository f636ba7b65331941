"""How child processes come to be: started anew, or forked from a template that is already warm.

A template is a locked process that has loaded Python, torch and the harness (seconds) and touches
no job. For each job it forks (milliseconds), so every job begins in the same clean memory and none
can leave anything behind in another's. It computes nothing, so no thread of a library is at work
when it forks (pyarrow's allocator has an idle one, and handles forks); and it is not dumpable, so
its forks cannot reach into it.

Linux only. Not promised: that a template survives; who asks a dead one gets TemplateDied.
"""

import json
import os
import select
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Protocol, Self


class TemplateDied(RuntimeError):
    """The template is gone; `stderr` is what it said last."""

    def __init__(self, stderr: str) -> None:
        self.stderr = stderr
        super().__init__(f"the template process ended: {stderr.strip()[-500:]}")


class Process(Protocol):
    """A started process that leads its own session."""

    pid: int

    def ended(self) -> bool:
        """Whether it ended. Its number stays its own until `reap`."""
        ...

    def reap(self) -> int:
        """The status of a process that ended, as in Popen.returncode. Called once."""
        ...


@dataclass(frozen=True)
class Pipes:
    """Our ends of the standard streams of a process."""

    stdin: FileIO
    stdout: FileIO
    stderr: FileIO

    @classmethod
    def open(cls) -> tuple[Self, tuple[int, int, int]]:
        """Our ends, and the descriptors of the other ends, which the caller closes."""
        ends: list[int] = []
        try:
            for _ in range(3):
                ends += os.pipe()
        except OSError:  # out of descriptors: those that we got are the last ones
            for descriptor in ends:
                os.close(descriptor)
            raise
        in_r, in_w, out_r, out_w, err_r, err_w = ends
        ours = cls(FileIO(in_w, "w"), FileIO(out_r), FileIO(err_r))
        return ours, (in_r, out_w, err_w)

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


class Cold:
    """A process started anew. The thread that makes it must outlive it: with the thread ends it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        home: Path,
        theirs: Sequence[int],
    ) -> None:
        stdin, stdout, stderr = theirs
        self._process = subprocess.Popen(
            [*command, "--parent", str(os.getpid())],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=home,
            env={**environment, **_homes(home)},
            start_new_session=True,
        )
        self.pid = self._process.pid

    def ended(self) -> bool:
        waiting = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, waiting) is not None

    def reap(self) -> int:
        return self._process.wait()


class Template:
    """A warm process that forks on request. Made by a thread that must outlive it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], home: Path) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stderr = home / "stderr"
        self._asking = Lock()
        try:
            with theirs, self._stderr.open("wb") as stderr:
                self._process = subprocess.Popen(
                    [*command, "--template", "--parent", str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    cwd=home,
                    env={**environment, **_homes(home)},
                    start_new_session=True,
                )
        except OSError:
            self._link.close()
            raise

    def fork(self, home: Path, theirs: Sequence[int]) -> "Forked":
        """A process with these standard streams; waits while the template warms up.

        Raises TemplateDied.
        """
        return Forked(self, self._ask(_homes(home), theirs)["pid"])

    def reap(self, pid: int) -> int:
        """The status of a fork that ended. Raises TemplateDied."""
        return self._ask({"reap": pid}, ())["status"]

    def close(self) -> None:
        """End it, and with it every fork."""
        self._process.kill()
        self._process.wait()
        self._link.close()

    def _ask(self, message: Mapping[str, object], descriptors: Sequence[int]) -> dict[str, int]:
        with self._asking:
            try:
                socket.send_fds(self._link, [json.dumps(message).encode()], descriptors)
                answer = self._link.recv(4096)
            except OSError:  # also after close(), from another thread
                answer = b""
        if not answer:
            raise TemplateDied(self._stderr.read_text(errors="replace"))
        found: dict[str, int] = json.loads(answer)
        return found


class Forked:
    """A template's fork."""

    def __init__(self, template: Template, pid: int) -> None:
        self._template, self.pid = template, pid
        self._handle = os.pidfd_open(pid)

    def ended(self) -> bool:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(0))

    def reap(self) -> int:
        os.close(self._handle)
        try:
            return self._template.reap(self.pid)
        except TemplateDied:
            return -9  # forks end with their template


def _homes(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "TMPDIR": str(home)}
