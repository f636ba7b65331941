"""The Dockerfile, without a container engine: its instructions read, its commands run.

The slow test installs into an empty environment as the image does; the others use this one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.localhub import LocalHub

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns("__pycache__")


def instructions() -> list[tuple[str, str]]:
    """(instruction, its rest) in order; comments dropped, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


STEPS = instructions()


def the(name: str) -> str:
    """The rest of the last instruction of that name."""
    return [rest for word, rest in STEPS if word == name][-1]


def between_stages(copy: str) -> bool:
    return copy.startswith("--from=")


def exec_form(text: str) -> list[str]:
    return [str(part) for part in json.loads(text[text.index("[") :])]


@dataclass
class Image:
    """The instructions carried out below `root` instead of `/`."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = Path("/")

    def build(self) -> None:
        for word, rest in STEPS:
            if word == "WORKDIR":
                self.folder = self.at(rest)
                self.folder.mkdir(parents=True, exist_ok=True)
            elif word == "COPY" and not between_stages(rest):  # one root holds both
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, self.folder / target)
            elif word == "RUN" and rest.split()[0] not in ("useradd", "install"):
                subprocess.run(
                    [self._moved(part) for part in shlex.split(rest)],
                    cwd=self.folder, env=self.environment, check=True, timeout=1500,
                )  # fmt: skip

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _moved(self, part: str) -> str:
        return str(self.at(part)) if part.startswith("/") else part

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=IGNORED)
        else:
            shutil.copy(source, target)


def test_not_root_and_the_volume_is_the_users():
    assert the("USER") == "stockpot"
    order = [word for word, _ in STEPS]
    assert order.index("USER") > max(i for i, word in enumerate(order) if word == "RUN")
    assert the("VOLUME") == the("WORKDIR") == "/data"
    made = [rest for word, rest in STEPS if word == "RUN" and rest.startswith("install ")]
    assert "--owner stockpot" in made[0]
    assert "/data" in made[0]


def test_installs_all_packages_from_the_constraints():
    copies = [rest for word, rest in STEPS if word == "COPY" and not between_stages(rest)]
    copied = {source for rest in copies for source in rest.split()[:-1]}
    assert {"bot", "db", "merge", "route", "constraints.txt", "pyproject.toml"} <= copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    installs = [rest for word, rest in STEPS if word == "RUN" and " install " in rest]
    assert any("-c constraints.txt" in rest for rest in installs)


def test_start_and_health_check(tmp_path):
    start_and_look(Path(sys.executable).parent, tmp_path)


@pytest.mark.slow
def test_install_and_start_in_an_empty_environment(tmp_path):
    image = Image(tmp_path / "root", clean_environment(tmp_path))
    image.build()
    start_and_look(image.at("/opt/venv/bin"), image.at("/data"))


def clean_environment(folder: Path) -> dict[str, str]:
    """Nothing of this environment but pip's settings, certificates and cache; `python` is the
    interpreter that this one was made from."""
    base = folder / "bin"
    base.mkdir()
    interpreter = base / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.quote(base_python())} "$@"\n')
    interpreter.chmod(0o755)
    passed = re.compile("PIP_|HTTPS?_PROXY|NO_PROXY|SSL_CERT|REQUESTS_CA", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if passed.match(name)}
    cache = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True
    )
    return {
        **kept,
        "PATH": f"{base}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PIP_CACHE_DIR": cache.stdout.strip(),
    }


def base_python() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


def start_and_look(programs: Path, data: Path) -> None:
    """CMD with HEALTHCHECK beside it, until the check passes; then the end that engines send."""
    users = {"stockpot": []}
    with LocalHub(data.parent / "hub", users=users) as hub:
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(data),
            "BOT_ENDPOINT": hub.url,
            "BOT_TOKEN": hub.token("stockpot"),
            "BOT_HEALTH_PORT": str(free_port()),
            **({"BOT_ALLOW_ROOT": "true"} if os.geteuid() == 0 else {}),
        }
        assert the("HEALTHCHECK").split(" CMD ")[0].startswith("--interval=")
        assert healthy(environment, data) is False  # nothing listens yet
        subprocess.run(["bot", "init"], cwd=data, env=environment, check=True)
        with started(exec_form(the("CMD")), environment, data) as process:
            deadline = time.monotonic() + 60
            while not healthy(environment, data):
                assert process.poll() is None, (data / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.3)
            url = f"http://127.0.0.1:{environment['BOT_HEALTH_PORT']}/metrics"
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert b"stockpot_steps_running" in answer.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0, (data / "log").read_text()


def healthy(environment: Mapping[str, str], folder: Path) -> bool:
    check = exec_form(the("HEALTHCHECK"))
    done = subprocess.run(check, cwd=folder, env=environment, capture_output=True, timeout=30)
    return done.returncode == 0


@contextmanager
def started(
    command: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
