"""A child that misbehaves on request: `bot.executors` runs it in place of the worker.

It locks itself up by the worker's own code, reads its job, and then does what the `picture` job's
kind says.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bot.worker.protocol import MAX_LINE, take_over_stdio
from bot.worker.sandbox import lock
from bot.worker.template import fork_forever


def main() -> None:
    parent = int(sys.argv[-1])
    told = [word.partition("=") for word in sys.argv]
    cover = [Path(value) for name, _, value in told if name == "--cover"]
    if "--template" in sys.argv:
        lock(parent, forks=True, cover=cover)
        parent = fork_forever(modules=("json",))
    channel = take_over_stdio()
    channel.send({"sandbox": asdict(lock(parent, cover=cover))})
    order = channel.receive()
    job = order["job"]
    globals()[job["kind"]](channel, Path(job["out"]))
    channel.send({"done": True})


def look_around(channel, out):
    """What a stranger's code would look for first."""
    names = sorted(os.environ)
    try:
        socket.create_connection(("127.0.0.1", int(out.name)), timeout=2).close()
        network = "open"
    except OSError as error:
        network = type(error).__name__
    channel.send({"environment": names, "network": network, "home": os.environ["HOME"]})
    capabilities = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    try:
        seen = out.parent.joinpath("parent").read_text()
        parent = Path(f"/proc/{seen}/environ").read_bytes().decode(errors="replace")
    except OSError as error:
        parent = type(error).__name__
    channel.send({"parent": parent, "capabilities": capabilities})


def reach_for_the_template(channel, out):
    """Its memory would be every later job's memory; its home every later job's neighbour."""
    template = out.name
    found = {}
    for name in ("mem", "environ", "maps"):
        try:
            with open(f"/proc/{template}/{name}", "r+b" if name == "mem" else "rb") as file:
                file.read(1)
            found[name] = "open"
        except OSError as error:
            found[name] = type(error).__name__
    channel.send(found)


def remember(channel, out):
    """Leave something in this process's memory, and say what was there."""
    channel.send({"before": getattr(json, "left_behind", None), "home": os.environ["HOME"]})
    json.left_behind = "x"
    os.environ["LEFT"] = "x"


def sleep_with_family(channel, out):
    """Two grandchildren, one in a session of its own."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", str(out)]
    subprocess.Popen(command)
    subprocess.Popen(command, start_new_session=True)
    channel.send({"started": True})
    time.sleep(600)


def leave_family(channel, out):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(out)])


def grow(channel, out):
    held = []
    while True:
        held.append(bytearray(os.urandom(1)) * (8 * 2**20))
        time.sleep(0.01)


def shout(channel, out):
    """One line that never ends."""
    writer = channel._writer
    while True:
        writer.write(b"x" * MAX_LINE)


def chatter(channel, out):
    """A library that prints, before and between the messages."""
    for number in range(3):
        print(json.dumps({"done": True, "fake": number}))
        os.write(1, b'{"fake": "raw"}\n')
        subprocess.run([sys.executable, "-c", "print('{}')"], check=True)
        channel.send({"number": number})
    print(f"stdin: {sys.stdin.read()!r}")


def babble(channel, out):
    channel._writer.write(b"[1, 2]\n")
    channel._writer.flush()
    time.sleep(600)


def die(channel, out):
    print("about to fall", file=sys.stderr)
    os.abort()


def close_ears(channel, out):
    channel.send({"ready": True})
    channel._reader.close()
    channel.send({"error": {"code": "deaf", "message": "no more", "subject": "ears"}})


def read_files(channel, out):
    """Of a folder, everything below it."""
    files = sorted(path for path in out.rglob("*") if not path.is_dir())
    channel.send({str(path.relative_to(out)): path.read_text() for path in files})


def answer(channel, out):
    while (asked := channel.receive()) is not None:
        channel.send({"echo": asked})


def write_home(channel, out):
    Path(os.environ["HOME"], "left").write_text("x")
    channel.send({"home": os.environ["HOME"]})


if __name__ == "__main__":
    main()
