"""What a child gives up before it reads a job.

In order: it refuses an environment that holds a credential; gives up gaining privileges; enters
its own user, network, process and mount namespace where the kernel allows; covers the files that it
was told to, which hold tokens; drops every capability; forbids itself new sockets by a system call
filter; asks to die with its parent.

Held by the kernel: no network (filter or namespace, either is enough), no reading of the parent's
memory or environment (namespace or dropped capabilities), with a process namespace no orphan
whatever way the parent dies, and with a mount namespace no look at a covered file: what a more
privileged namespace has mounted cannot be taken away (mount_namespaces(7)).

Not promised: confinement of other files. The child reads what its user may read; and it is no
defence against a fault of the kernel itself.
"""

import ctypes
import errno
import os
import platform
import re
import resource
import select
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.worker.jobs import Limits

_CREDENTIAL = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API_?KEY|ACCESS_?KEY)(_|$)|^BOT_", re.I
)
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_CAPABILITY_VERSION_3 = 0x20080522
# machine -> (AUDIT_ARCH_*, number of socket(2)); io_uring_setup has one number everywhere and
# must go too, since a ring opens sockets without the call.
_SYSTEM_CALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425

_libc = ctypes.CDLL(None, use_errno=True)


class Unclean(RuntimeError):
    """The environment holds what a child must never see; names only, never values."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(f"the environment holds {', '.join(names)}")


@dataclass(frozen=True)
class Sandbox:
    """What held. `network_namespace` or `sockets_refused` means: no network."""

    network_namespace: bool
    process_namespace: bool
    sockets_refused: bool
    tokens_covered: bool  # or there was no file to cover


def lock(parent: int, *, forks: bool = False, cover: Sequence[Path] = ()) -> Sandbox:
    """Lock this process up; it must be single-threaded and a direct child of `parent`.

    cover: files that read as empty from here on, where there is a mount namespace.

    With a process namespace this returns in a fork: the caller's process stays behind, waits and
    passes the exit status on. A process that `forks` children to be locked in their turn takes no
    process namespace. Raises Unclean; exits when the parent is already gone.
    """
    refuse_credentials(os.environ)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent(parent)
    cover = [file for file in cover if file.exists()]
    wanted = _CLONE_NEWNET | (0 if forks else _CLONE_NEWPID) | (_CLONE_NEWNS if cover else 0)
    namespaces = _enter_namespaces(wanted)
    covered = not cover or bool(namespaces & _CLONE_NEWNS and _cover(cover))
    if namespaces & _CLONE_NEWPID:
        _continue_in_fork()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _drop_capabilities()
    return Sandbox(
        network_namespace=bool(namespaces & _CLONE_NEWNET),
        process_namespace=bool(namespaces & _CLONE_NEWPID),
        sockets_refused=_refuse_sockets(),
        tokens_covered=covered,
    )


def limit(limits: Limits) -> None:
    """Last resort behind the daemon's own watch: processor seconds, and private memory."""
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    _lower(resource.RLIMIT_DATA, limits.memory_bytes)


def refuse_credentials(environment: Mapping[str, str]) -> None:
    """Raises Unclean where a variable's name says that it is a secret or a setting of the bot."""
    if names := tuple(sorted(name for name in environment if _CREDENTIAL.search(name))):
        raise Unclean(names)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the *thread* that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may read this one's memory and environment."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def _enter_namespaces(wanted: int) -> int:
    """The flags of the widest set of namespaces that the kernel grants; 0 for none."""
    user, group = os.getuid(), os.getgid()
    for flags in (
        _CLONE_NEWUSER | wanted,
        _CLONE_NEWUSER | _CLONE_NEWNET,
        wanted,  # root in a container that forbids user namespaces
    ):
        if _libc.unshare(flags) == 0:
            if flags & _CLONE_NEWUSER:
                _keep_identity(user, group)
            return flags
    return 0


def _keep_identity(user: int, group: int) -> None:
    # user_namespaces(7): an unprivileged process may map itself alone, after giving up setgroups.
    # Root is an ordinary number inside: since Linux 5.12 a process without capabilities cannot
    # hand a 0 on to a namespace of its own.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user or 1000} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _cover(files: Sequence[Path]) -> bool:
    """Put the empty device over each; whether that worked for all."""
    # Else what is mounted here would show outside, where mounts are shared.
    mounts: list[tuple[bytes | None, bytes, int]] = [(None, b"/", _MS_REC | _MS_PRIVATE)]
    mounts += [(b"/dev/null", os.fsencode(file), _MS_BIND) for file in files]
    return all(_libc.mount(what, where, None, how, None) == 0 for what, where, how in mounts)


def _continue_in_fork() -> None:
    """A process namespace begins with the next fork. The fork goes on; this process waits.

    When the fork ends, the kernel ends all that it started. As the namespace's first process it
    ignores signals it sends itself, so an abort shows as the fault that follows it.
    """
    alive, held = os.pipe()
    inner = os.fork()
    if inner:
        os.closerange(0, held)  # so that the pipes to the daemon end with the fork
        os.closerange(held + 1, os.sysconf("SC_OPEN_MAX"))
        _, status = os.waitpid(inner, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    os.close(held)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent's id reads 0 from in here; its end of this pipe says instead whether it lives.
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)


def _drop_capabilities() -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def _refuse_sockets() -> bool:
    """Install a filter under which socket(2) fails with EACCES; False on an unknown machine."""
    if platform.machine() not in _SYSTEM_CALLS:
        return False
    arch, socket_call = _SYSTEM_CALLS[platform.machine()]
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06  # classic BPF: ld abs, jeq, jge, ret
    refuse, allow = 0x00050000 | errno.EACCES, 0x7FFF0000
    program = (
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, 4, arch),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, 2, 0, 0x40000000),  # the x32 calls have numbers of their own
        (equal, 1, 0, socket_call),
        (equal, 0, 1, _IO_URING_SETUP),
        (end, 0, 0, refuse),
        (end, 0, 0, allow),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    pointer = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    seccomp_mode_filter = 2
    return bool(_libc.prctl(_PR_SET_SECCOMP, seccomp_mode_filter, pointer, 0, 0) == 0)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl({option})")


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
