"""What calibrations of routers have measured, and how far the running ones are: files alone.

    data/rounds/PINS/ROUND.json    a round, below the digest of the pins it was measured with
    data/rounds/PAIR.progress      how far the calibration of a pair is

A round can be used by pairs of the same pins only, whatever their settings; so the folder of pins
that no configured pair has is of no more use. Everything here can be measured again: a file that is
lost or broken costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.errors import Broken

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LEFTOVER = re.compile(r"[0-9a-f]{64}\.(json|partial|progress)")


@dataclass(frozen=True)
class Progress:
    """Rounds that are done, rounds in all, and what the last one was."""

    done: int
    total: int
    what: str


def pins_digest(base: str, aligned: str) -> str:
    """Names the folder of a pair's rounds. base, aligned: ORG/NAME@SHA each."""
    return hashlib.sha256(json.dumps([base, aligned]).encode()).hexdigest()


def keep_round(folder: Path, line: Mapping[str, object]) -> None:
    """Store what a child measured, whole or not at all.

    Raises Broken for a name that is no digest: it becomes a file's name.
    """
    name = line["round"]
    if not isinstance(name, str) or not _DIGEST.fullmatch(name):
        raise Broken(f"calibration names a round {name!r:.80}")
    _write(folder / f"{name}.json", line.get("record"))


def keep_progress(folder: Path, pair: str, line: Mapping[str, object]) -> None:
    """Store what a child tells after each round (`bot.worker.calibrate`)."""
    _write(folder / f"{pair}.progress", line)


def read_progress(folder: Path, pair: str) -> Progress | None:
    """How far the calibration of `pair` is; None before its first round, or where it is unknown."""
    try:
        read = json.loads((folder / f"{pair}.progress").read_text(encoding="utf-8"))
        return Progress(int(read["progress"]), int(read["total"]), str(read["what"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clean(folder: Path, wanted: Collection[str]) -> None:
    """Remove the rounds of all pins but the `wanted` ones, and every progress.

    Touches only what is named as this module names it, and follows no link. What cannot be removed
    stays; a calibration that is at work on something removed measures it again.
    """
    for one in folder.iterdir() if folder.is_dir() else ():
        if _DIGEST.fullmatch(one.name) and one.name not in wanted and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        elif _LEFTOVER.fullmatch(one.name) and one.is_file():
            one.unlink(missing_ok=True)


def _write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(file)
