"""The main job on one machine, twice.

A Hub is started and strangers fill it with a tiny base, fine-tunes and repositories that must be
refused. `bot run` then runs as anybody would run it, as a daemon in a process of its own. It scores
the fine-tunes, publishes a soup and a router; a new expert is pushed; it publishes version 2. Last,
`bot verify` makes the published soup again, byte for byte.
"""

from __future__ import annotations

from bot.demo.play import run_demo
from bot.demo.show import Outcome

__all__ = ["Outcome", "run_demo"]
