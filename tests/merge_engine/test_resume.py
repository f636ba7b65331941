"""Runs that end early: killed by SIGKILL anywhere, or interrupted; and what the next run does."""

import _thread
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import checkpoints as zoo
import pytest

from merge.checkpoint import Stamp
from merge.errors import Refused
from merge.journal import NAME, Finished, Journal, plan_digest
from merge.soup import check_disk, plan_soup, write_soup

SHAPES = {f"layers.{i}.weight": (200, 1000 + i) for i in range(12)}
CHILD = """
import sys, time
from fractions import Fraction
from pathlib import Path
from merge.soup import plan_soup, write_soup
root, pause = Path(sys.argv[1]), float(sys.argv[2])
members = [(root / f"m{i}", Fraction(i + 1, 6)) for i in range(3)]
plan = plan_soup(members, max_shard=2_000_000)
print("go", flush=True)
write_soup(plan, root / "out", threads=2, window=4096, every=50_000, extras={"config.json": b"{}"},
           progress=lambda *_: time.sleep(pause))
"""


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    root = tmp_path_factory.mktemp("members")
    for i in range(3):
        zoo.save(root / f"m{i}", zoo.tensors(i, shapes=SHAPES))
    return root


def planned(root, last=3, max_shard=2_000_000):
    weights = [Fraction(n, 3 + last) for n in (1, 2, last)]
    return plan_soup([(root / f"m{i}", w) for i, w in enumerate(weights)], max_shard=max_shard)


def linked(members, root):
    """A folder of its own beside which nothing else is written; the members' very files."""
    for folder in members.iterdir():
        (root / folder.name).mkdir()
        for file in folder.iterdir():
            os.link(file, root / folder.name / file.name)
    return root


def on_disk(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def finish(root, **options):
    extras = {"config.json": b"{}"}
    report = write_soup(planned(root), root / "out", threads=2, extras=extras, **options)
    assert {name: file.sha256 for name, file in report.files.items()} == on_disk(root / "out")
    assert not list(root.glob(".*"))
    return report


class Stop(BaseException):
    """As a KeyboardInterrupt."""


def interrupted(plan, out, share, **options):
    """Run until `share` of the output is written."""

    def stop(done, total):
        if done >= share * total:
            raise Stop

    with pytest.raises(Stop):
        write_soup(plan, out, window=4096, every=50_000, threads=2, progress=stop, **options)


def journal(root):
    return [json.loads(line) for line in (root / ".out.partial" / NAME).read_text().splitlines()]


@pytest.fixture(scope="module")
def calm(members, tmp_path_factory):
    root = linked(members, tmp_path_factory.mktemp("calm"))
    finish(root)
    return on_disk(root / "out")


def test_sigkill_at_random_moments_ends_in_the_same_bytes(members, calm, tmp_path):
    """One soup, killed again and again until a run gets through."""
    root = linked(members, tmp_path)
    moments = random.Random(time.time_ns())
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, root, "0.0005"], cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        child.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.5))
        os.kill(child.pid, signal.SIGKILL)
        ended = child.wait()
        child.stdout.close()
        if ended == 0 or (root / "out").exists():  # renamed, hence whole: see below
            break
    if not (root / "out").exists():
        finish(root)
    assert on_disk(root / "out") == calm
    assert not list(root.glob(".*"))


def test_the_next_run_goes_on_where_the_journal_ends(members, calm, tmp_path):
    root = linked(members, tmp_path)
    interrupted(planned(root), root / "out", 0.6)
    done = journal(root)[-1]["done"]
    assert done > 0
    steps = []
    report = finish(root, progress=lambda done, total: steps.append((done, total)), window=4096)
    assert steps[0][0] > done
    assert steps[-1][0] == steps[-1][1]
    assert report.seconds.resume > 0
    assert on_disk(root / "out") == calm


def test_finished_parts_are_not_written_again(members, tmp_path):
    """A byte changed in a part that the journal lists stays changed: nobody touched it."""
    root = linked(members, tmp_path)
    interrupted(planned(root), root / "out", 0.6)
    assert journal(root)[-1]["done"] > 1000
    first = planned(root).jobs[0].out
    with open(root / ".out.partial" / first.file, "r+b") as stream:
        stream.seek(first.begin)
        byte = stream.read(1)
        stream.seek(first.begin)
        stream.write(bytes([byte[0] ^ 1]))
    report = finish(root, verify=False)
    assert (root / "out" / first.file).read_bytes()[first.begin] == byte[0] ^ 1
    assert report.files[first.file].sha256 == on_disk(root / "out")[first.file]


@pytest.mark.parametrize(
    "change",
    [
        "weights",
        "layout",
        "member",
        "twin",
        "place",
        "journal",
        "pipe",
        "nonsense",
        "beyond",
        "file",
        "cut",
    ],
)
def test_after_a_change_the_next_run_starts_clean(members, tmp_path, change):
    root = linked(members, tmp_path)
    path = root / "m1" / "model.safetensors"
    shutil.copy2(path, root / "m1" / "twin")
    if change == "place":
        os.replace(root / "m1" / "twin", path)  # one that no other test shares
    interrupted(planned(root), root / "out", 0.6)
    left = root / ".out.partial"
    plan = planned(root)
    if change == "weights":
        plan = planned(root, last=4)
    elif change == "layout":
        plan = planned(root, max_shard=10**9)
    elif change == "member":
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        plan = planned(root)
    elif change == "twin":  # as `rsync -t` or `cp -p` put one file in another's place
        os.replace(root / "m1" / "twin", path)
        plan = planned(root)
    elif change == "place":  # as where a file system gives the number of a removed file again
        data, times = bytearray(path.read_bytes()), path.stat()
        data[-1] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert Stamp.of(path.stat()) == Stamp.of(times)
        plan = planned(root)
    elif change == "journal":
        (left / NAME).write_bytes(b"\x00" * 100 + b"\n")
    elif change == "pipe":
        (left / NAME).unlink()
        os.mkfifo(left / NAME)
    elif change in ("nonsense", "beyond"):
        done = 4097 if change == "nonsense" else 4096 * plan.output_bytes
        with open(left / NAME, "a") as stream:
            stream.write(json.dumps({"done": max(done, journal(root)[-1]["done"] + 1)}) + "\n")
    elif change == "file":
        (left / plan.files[0].name).unlink()
    elif change == "cut":
        os.truncate(left / plan.files[0].name, 1000)
    assert Journal.resume(left, plan) is None
    steps = []
    write_soup(plan, root / "out", window=4096, progress=lambda done, _: steps.append(done))
    assert steps[0] <= 4 * 1024
    write_soup(plan, root / "calm")
    assert on_disk(root / "out") == on_disk(root / "calm")


FEW = """
import resource, sys
from fractions import Fraction
from pathlib import Path
from merge.soup import plan_soup, write_soup
root = Path(sys.argv[1])
plan = plan_soup([(root / f"m{i}", Fraction(i + 1, 6)) for i in range(3)], max_shard=1)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
report = write_soup(plan, root / "out", threads=4, window=4096)
print(len(report.files))
"""


def test_few_open_files_are_enough_for_many_shards_and_threads(tmp_path):
    shapes = {f"layers.{i}.weight": (3000,) for i in range(100)}
    for i in range(3):
        zoo.save(tmp_path / f"m{i}", zoo.tensors(i, shapes=shapes), shards=30)
    done = zoo.run_python(FEW, tmp_path)
    assert done.stdout == "101\n", done.stderr


ONCE = """
import resource, sys
from fractions import Fraction
from pathlib import Path
from merge.soup import plan_soup, write_soup
root = Path(sys.argv[1])
plan = plan_soup([(root / f"m{i}", Fraction(i + 1, 6)) for i in range(3)])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
opened = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], Path | str):
        opened.append(str(arguments[0]))
sys.addaudithook(note)
write_soup(plan, root / "out", threads=32, window=4096, verify=False)
print([opened.count(str(root / f"m{i}" / "model.safetensors")) for i in range(3)])
"""


def test_many_threads_open_each_file_once(members, tmp_path):
    done = zoo.run_python(ONCE, linked(members, tmp_path))
    assert done.stdout == "[1, 1, 1]\n", done.stderr


def test_a_torn_last_line_is_ignored(members, calm, tmp_path):
    root = linked(members, tmp_path)
    interrupted(planned(root), root / "out", 0.6)
    lines = journal(root)
    with open(root / ".out.partial" / NAME, "ab") as stream:
        stream.write(b'{"done": 99999')
    found = Journal.resume(root / ".out.partial", planned(root))
    assert found.done == lines[-1]["done"]
    found.close()
    finish(root)
    assert on_disk(root / "out") == calm


def test_space_of_an_unfinished_run_counts_as_free(members, tmp_path):
    root = linked(members, tmp_path)
    interrupted(planned(root), root / "out", 0.3)
    held = sum(p.stat().st_blocks * 512 for p in (root / ".out.partial").iterdir())
    assert held >= planned(root).output_bytes
    check_disk(planned(root), root / "out")


FULL = """
import resource, sys
from fractions import Fraction
from pathlib import Path
from merge.errors import Refused
from merge.soup import plan_soup, write_soup
root, spare, extra = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
plan = plan_soup([(root / f"m{i}", Fraction(i + 1, 6)) for i in range(3)])
limit = plan.output_bytes + spare
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write_soup(plan, root / "out", threads=1, extras={"tokenizer.json": bytes(limit + extra)})
except Refused as refused:
    print(refused)
"""


@pytest.mark.parametrize(("spare", "extra"), [(-1, 0), (0, 1)], ids=["at first", "at the end"])
def test_what_the_disk_does_not_take_is_refused_and_nothing_is_left(
    members, tmp_path, spare, extra
):
    root = linked(members, tmp_path)
    told = zoo.run_python(FULL, root, spare, extra)
    assert told.stdout == (
        f"disk-full: {root}/out: File too large; nothing is left; "
        "make room there, or choose another disk, and run it again\n"
    ), told.stderr
    assert {path.name for path in root.iterdir()} == {"m0", "m1", "m2"}


def test_without_durability_there_is_no_journal(members, calm, tmp_path):
    root = linked(members, tmp_path)
    interrupted(planned(root), root / "out", 0.6, durable=False)
    assert not (root / ".out.partial" / NAME).exists()
    finish(root, durable=False)
    assert on_disk(root / "out") == calm


def test_the_plans_digest_follows_weights_and_files(members):
    digest = plan_digest(planned(members))
    assert digest == plan_digest(planned(members))
    assert digest != plan_digest(planned(members, last=4))
    os.utime(members / "m0" / "model.safetensors", ns=(1, 1))
    assert digest != plan_digest(planned(members))


@pytest.mark.parametrize("times", [1, 3])
def test_however_often_interrupted_no_thread_goes_on_behind(members, calm, tmp_path, times):
    """What an abandoned thread writes would land in the file of the next run."""
    root = linked(members, tmp_path)
    before = threading.active_count()

    def interrupt(done, total):
        if threading.active_count() > before:
            for _ in range(times):
                _thread.interrupt_main()
                time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        write_soup(planned(root, last=4), root / "out", window=4096, threads=2, progress=interrupt)
    assert threading.active_count() == before
    finish(root)
    assert on_disk(root / "out") == calm


def test_refusals_leave_no_file_open(members, tmp_path):
    root = linked(members, tmp_path)
    plan = planned(root)
    opened = set(os.listdir("/proc/self/fd"))
    (plan.sources[0].folder / "model.safetensors").unlink()
    with pytest.raises(Refused, match=r"m0: model\.safetensors"):
        write_soup(plan, root / "out")
    assert set(os.listdir("/proc/self/fd")) == opened


def test_only_windows_without_a_gap_before_them_count():
    finished = Finished(100, every=30)
    assert finished.add(1, 20) is None
    assert finished.done == 100
    assert finished.add(0, 20) == 140
    assert finished.add(2, 40) is None  # the number before is still being recorded
    finished.told()
    assert finished.add(3, 10) == 190


def test_windows_from_many_threads_add_up():
    finished, count = Finished(0, every=1 << 60), 2000
    numbers = list(range(count))
    random.Random(0).shuffle(numbers)

    def work(part):
        for number in part:
            finished.add(number, number % 7)

    threads = [threading.Thread(target=work, args=(numbers[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished.done == sum(number % 7 for number in range(count))
