"""A child is locked up, and ends: at its deadline, above its memory, and with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bot.executors import (
    COMMAND,
    ChildDied,
    ChildFailed,
    ChildTimeout,
    ChildTooBig,
    LocalExecutor,
)
from bot.worker.protocol import MAX_LINE, LineTooLong, ProtocolError

ROOT = Path(__file__).resolve().parents[2]
ROGUE = (sys.executable, "-P", "-s", str(Path(__file__).with_name("rogue.py")))


@pytest.fixture
def executor(tmp_path):
    with LocalExecutor(tmp_path / "data", deadline=30, command=ROGUE) as executor:
        yield executor


def rogue(kind, out="/nowhere"):
    return {"task": "picture", "kind": kind, "data": {}, "out": str(out)}


def running(mark):
    """Living processes with `mark` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(mark).encode() in line:
                found.append(int(entry.name))
    return found


def come_to(count, mark, seconds=5.0):
    """Whether so many of them are soon there; a process that just began has no command line yet."""
    end = time.monotonic() + seconds
    while len(running(mark)) != count and time.monotonic() < end:
        time.sleep(0.02)
    return len(running(mark)) == count


def gone(mark):
    return come_to(0, mark)


def test_the_child_sees_no_credential_and_no_network(executor, tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("BOT_ANYTHING", "canary")
    (tmp_path / "parent").write_text(str(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with executor.start(rogue("look_around", tmp_path / str(port))) as child:
            first, second = child.lines()
            sandbox = child.sandbox
    assert set(first["environment"]) <= {
        *("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TZ", "LC_CTYPE"),
        *("HOME", "TMPDIR", "LANG", "PYTHONPATH", "TOKENIZERS_PARALLELISM", "MPLBACKEND"),
        *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TQDM_DISABLE"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"),
    }
    assert "OMP_WAIT_POLICY" in first["environment"]  # or waiting threads take the cores of others
    assert first["home"].startswith(str(tmp_path))
    if sandbox["network_namespace"] or sandbox["sockets_refused"]:
        assert first["network"] != "open"
    if sandbox["network_namespace"] or os.getuid() == 0:
        assert "canary" not in second["parent"]
    assert int(second["capabilities"], 16) == 0


@pytest.mark.parametrize("warm", [False, True])
def test_files_that_hold_tokens_are_empty_to_the_child(tmp_path, monkeypatch, warm):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("own", "token", "stored_tokens", "other"):
        (home / name).write_text("canary")
    monkeypatch.setenv("HF_HOME", str(home))
    options = {"token_file": home / "own", "warm": warm}
    with LocalExecutor(tmp_path, command=ROGUE, **options) as executor:
        for _ in range(2):
            with executor.start(rogue("read_files", home)) as child:
                seen, sandbox = child.receive(), child.sandbox
            if not sandbox["tokens_covered"]:
                pytest.skip("no mount namespace is granted here")
            assert seen == {"other": "canary", "own": "", "stored_tokens": "", "token": ""}
    with LocalExecutor(tmp_path, **options) as executor:
        assert executor.probe()["tokens_covered"]
    assert {path.read_text() for path in home.iterdir()} == {"canary"}


def test_a_credential_in_the_environment_is_refused_by_the_child(tmp_path):
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "MY_API_KEY": "canary"}
    done = subprocess.run(
        [*COMMAND, "--parent", str(os.getpid())], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b'"code":"sandbox"' in done.stdout
    assert b"MY_API_KEY" in done.stdout
    assert b"canary" not in done.stdout + done.stderr


def test_a_child_that_comes_up_after_its_parent_ended_ends_too():
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*COMMAND, "--parent", "1"], env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_deadline_ends_grandchildren_too(executor, tmp_path):
    mark = tmp_path / "family"
    with executor.start(rogue("sleep_with_family", mark), deadline=3.0) as child:
        lines = child.lines()
        assert next(lines) == {"started": True}
        assert come_to(2, mark)
        with pytest.raises(ChildTimeout, match="after 3 s"):
            next(lines)
    assert gone(mark)


def test_closing_in_the_middle_leaves_nothing(executor, tmp_path):
    mark = tmp_path / "family"
    with executor.start(rogue("sleep_with_family", mark)) as child:
        child.receive()
        pid = child.pid
    assert gone(mark)
    assert not child.alive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_finished_child_left_behind_is_ended(executor, tmp_path):
    mark = tmp_path / "left"
    with executor.start(rogue("leave_family", mark)) as child:
        assert list(child.lines()) == []
    assert gone(mark)


def test_memory_above_the_limit(executor):
    limit = 200 * 2**20
    with (
        executor.start(rogue("grow"), memory_limit=limit) as child,
        pytest.raises(ChildTooBig, match="memory above") as caught,
    ):
        list(child.lines())
    assert caught.value.limit == limit


def test_an_endless_line(executor):
    with (
        executor.start(rogue("shout")) as child,
        pytest.raises(ChildTooBig, match="one message above"),
    ):
        list(child.lines())


def test_our_own_message_above_the_cap_is_not_sent(executor):
    with executor.start(rogue("answer")) as child:
        with pytest.raises(LineTooLong):
            child.send({"text": "x" * MAX_LINE})
        large = {"text": "x" * (MAX_LINE - 100)}
        assert child.ask(large) == {"echo": large}


def test_prints_do_not_disturb_the_messages(executor):
    with executor.start(rogue("chatter")) as child:
        assert list(child.lines()) == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_line_that_is_no_message(executor):
    with (
        executor.start(rogue("babble")) as child,
        pytest.raises(ChildFailed, match="not a JSON object"),
    ):
        child.receive()


def test_a_crash_tells_its_status_and_last_words(executor):
    with (
        executor.start(rogue("die")) as child,
        pytest.raises(ChildDied, match="about to fall") as caught,
    ):
        list(child.lines())
    # The first process of a namespace survives its own SIGABRT and falls by the fault after it.
    died_of = abs(caught.value.status) % 128
    assert died_of in (signal.SIGABRT, signal.SIGSEGV, signal.SIGILL)


def test_a_child_that_stops_listening_is_asked_why(executor):
    with executor.start(rogue("close_ears")) as child:
        assert child.receive() == {"ready": True}
        large = {"text": "x" * 2**20}  # more than the pipe holds
        with pytest.raises(ChildFailed, match="deaf: no more") as caught:
            child.ask(large)
    assert caught.value.subject == "ears"


def test_a_conversation(executor):
    with executor.start(rogue("answer")) as child:
        for number in range(50):
            assert child.ask({"n": number}) == {"echo": {"n": number}}


def test_the_private_home_goes_with_the_child(executor):
    with executor.start(rogue("write_home")) as child:
        home = Path(child.receive()["home"])
        assert (home / "left").is_file()
    assert not home.exists()


def test_a_bad_job_never_reaches_a_child(executor):
    for job, reason in [
        ({"task": "dance"}, "unknown task 'dance'"),
        ({"task": "examine", "weights": "/x"}, "examine: field 'base' is missing"),
        ({"task": "examine", "weights": "x", "base": "/x"}, "weights must be an absolute path"),
        (rogue("x") | {"more": 1}, "unknown field 'more'"),
        (rogue("x") | {"data": 1}, "data must be an object"),
    ]:
        with pytest.raises(ProtocolError, match=reason):
            executor.start(job)


PARENT = """
import sys, time
from pathlib import Path
from bot.executors import LocalExecutor
executor = LocalExecutor(Path({data!r}), command={command!r})
child = executor.start({job!r})
print(child.receive(), flush=True)
time.sleep(600)
"""


def test_a_killed_parent_takes_everything_along(tmp_path):
    mark, script = tmp_path / "family", tmp_path / "parent.py"
    script.write_text(
        PARENT.format(
            data=str(tmp_path / "data"), command=ROGUE, job=rogue("sleep_with_family", mark)
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=environment
    ) as parent:
        try:
            assert b"started" in parent.stdout.readline()
            assert len(running(mark)) == 2
        finally:
            parent.send_signal(signal.SIGKILL)
    assert gone(mark)
    [holder] = (tmp_path / "data" / "children").iterdir()  # nobody was left to remove it
    with LocalExecutor(tmp_path / "data", command=ROGUE):
        assert not holder.exists()


def held():
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def homes(data):
    return [path.name for path in data.glob("children/executor-*/*-*")]


DEAD = (sys.executable, "-c", "raise SystemExit(3)")
TOO_LONG = rogue("answer") | {"data": {"text": "x" * MAX_LINE}}


@pytest.mark.parametrize(
    ("command", "job", "error"),
    [(DEAD, rogue("answer"), ChildDied), (ROGUE, TOO_LONG, LineTooLong)],
    ids=["it does not come up", "it cannot be told its job"],
)
def test_a_child_that_does_not_begin_leaves_nothing(tmp_path, command, job, error):
    data = tmp_path / "data"
    with LocalExecutor(data, command=command) as executor:
        for _ in range(2):  # what the first start opens for good is no leak
            before = held()
            with pytest.raises(error):
                executor.start(job)
        assert (held(), homes(data)) == (before, [])


@pytest.fixture
def warm(tmp_path):
    with LocalExecutor(tmp_path / "warm", deadline=30, warm=True, command=ROGUE) as executor:
        yield executor


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_forks_begin_clean(warm):
    homes = []
    for _ in range(3):
        with warm.start(rogue("remember")) as child:
            [line] = child.lines()
        assert line["before"] is None
        homes.append(line["home"])
    assert len(set(homes)) == 3


def test_forks_are_locked_like_any_child(warm, executor):
    with warm.start(rogue("answer")) as fork, executor.start(rogue("answer")) as child:
        assert fork.sandbox == child.sandbox


def test_a_fork_cannot_reach_into_its_template(warm, tmp_path):
    with warm.start(rogue("answer")) as first:
        template = parent_of(first.pid)
    with warm.start(rogue("reach_for_the_template", tmp_path / str(template))) as second:
        assert parent_of(second.pid) == template
        [found] = second.lines()
    assert found == dict.fromkeys(("mem", "environ", "maps"), "PermissionError")


def test_forks_end_at_the_deadline_with_their_families(warm, tmp_path):
    mark = tmp_path / "family"
    with warm.start(rogue("sleep_with_family", mark), deadline=1.0) as child:
        child.receive()
        with pytest.raises(ChildTimeout):
            child.receive()
    assert gone(mark)
    with warm.start(rogue("answer")) as next_one:
        assert next_one.ask({"n": 1}) == {"echo": {"n": 1}}


def test_a_crashed_fork_tells_its_status(warm):
    with warm.start(rogue("die")) as child, pytest.raises(ChildDied, match="about to fall"):
        child.receive()


def test_a_lost_template_is_replaced(warm, tmp_path):
    mark = tmp_path / "family"
    with warm.start(rogue("sleep_with_family", mark)) as child:
        child.receive()
        template = parent_of(child.pid)
        os.kill(template, signal.SIGKILL)
        with pytest.raises(ChildDied):
            child.receive()
    assert gone(mark)
    with warm.start(rogue("answer")) as child:
        assert parent_of(child.pid) != template


def test_a_template_that_did_not_start_is_replaced(tmp_path):
    """As when processes or memory are short for a while: here the program is not there yet."""
    program, data = tmp_path / "program", tmp_path / "data"
    with LocalExecutor(data, warm=True, command=(str(program), *ROGUE[1:])) as executor:
        for _ in range(2):
            before = held()
            with pytest.raises(FileNotFoundError):
                executor.start(rogue("answer"))
        assert (held(), homes(data)) == (before, [])
        program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        program.chmod(0o700)
        with executor.start(rogue("answer")) as child:
            assert child.ask({"n": 1}) == {"echo": {"n": 1}}


def test_an_executor_whose_template_did_not_start_closes(tmp_path):
    data = tmp_path / "data"
    LocalExecutor(data, warm=True, command=("/nowhere/at/all",)).close()
    assert list(data.glob("children/*")) == []


def test_two_executors_on_one_folder_leave_each_other_alone(tmp_path):
    with LocalExecutor(tmp_path, command=ROGUE) as first:
        with LocalExecutor(tmp_path, command=ROGUE), first.start(rogue("write_home")) as child:
            assert Path(child.receive()["home"]).is_dir()
        with first.start(rogue("write_home")) as child:
            assert Path(child.receive()["home"]).is_dir()
    first.close()  # twice is once


WITHOUT_NAMESPACES = """
import os, sys
from pathlib import Path
from bot.worker import sandbox
user = os.getuid()
if sandbox._libc.unshare(sandbox._CLONE_NEWUSER) != 0:
    sys.exit(77)
Path("/proc/self/uid_map").write_text(f"1000 {user} 1")  # not root, who regains all by the exec
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.executable, [sys.executable, "-P", "-s", *sys.argv[1:]])
"""


@pytest.mark.parametrize("kept", [False, True])
def test_where_namespaces_are_forbidden_sockets_still_are(tmp_path, monkeypatch, kept):
    import socket

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    if kept:
        (tmp_path / "token").write_text("canary")
    command = (sys.executable, "-P", "-s", "-c", WITHOUT_NAMESPACES, ROGUE[-1])
    (tmp_path / "parent").write_text(str(os.getpid()))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        LocalExecutor(tmp_path / "data", command=command) as executor,
    ):
        port = server.getsockname()[1]
        try:
            child = executor.start(rogue("look_around", tmp_path / str(port)))
        except ChildDied as error:
            if error.status == 77:
                pytest.skip("this kernel grants no user namespace to forbid another one in")
            raise
        with child:
            first, _ = child.lines()
            assert child.sandbox == {
                "network_namespace": False,
                "process_namespace": False,
                "sockets_refused": True,
                "tokens_covered": not kept,  # then there is nothing to cover
            }
    assert first["network"] == "PermissionError"
