"""Exit codes; `bot.cli` says what they mean."""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    NO = 1
    USAGE = 2
    UNKNOWN = 3
