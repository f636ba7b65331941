"""What a locked process still sees of the files that hold tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LOCKED = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from bot.worker.sandbox import lock

files = [Path(name) for name in sys.argv[1:]]
parent = os.getpid()
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
held = lock(parent, cover=files)
(Path.cwd() / "made").write_text("here")
around = Path(f"/proc/{parent}/root") / files[0].relative_to("/")
try:
    seen = around.read_text()
except OSError:
    seen = ""
uncovered = os.system(f"umount -l {files[0]} 2>/dev/null") == 0
again = "unshare --user --mount --map-root-user sh -c 'umount -l {0}; cat {0}' 2>/dev/null"
anew = os.popen(again.format(files[0])).read()
print(json.dumps([asdict(held), [f.read_text() for f in files if f.exists()], seen, anew]))
os._exit(int(uncovered))
"""


def locked(folder: Path, *files: Path) -> tuple[dict[str, bool], list[str], str, str]:
    kept = {name: value for name, value in os.environ.items() if "TOKEN" not in name}
    command = [sys.executable, "-c", LOCKED, *map(str, files)]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=True)
    held, *seen = json.loads(done.stdout)
    return held, *seen


def test_a_covered_file_reads_as_empty_whatever_the_child_tries(tmp_path: Path) -> None:
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("hf_canary")
    other.symlink_to(token)
    held, files, around, anew = locked(tmp_path, token, other, tmp_path / "missing")
    if not held["tokens_covered"]:
        pytest.skip("no mount namespace is granted here")
    assert (files, anew) == (["", ""], "")
    assert around == "" or (os.geteuid() == 0 and not held["network_namespace"])
    assert token.read_text() == "hf_canary"
    assert (tmp_path / "made").read_text() == "here"


def test_where_there_is_nothing_to_cover_all_is_covered(tmp_path: Path) -> None:
    held, files, _, _ = locked(tmp_path, tmp_path / "missing")
    assert (held["tokens_covered"], files) == (True, [])
