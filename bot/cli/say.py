"""What commands print for eyes: as it stands, whoever wrote the words.

Names, reasons and generated texts are strangers' or an operator's. Nothing in them is markup, and
none of their control characters reaches the terminal.
"""

from __future__ import annotations

from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say(text: str, to: Console = console, style: str | None = None) -> None:
    """Print `text` and end the line; long lines are left to the terminal to wrap."""
    to.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)


def visible(text: str) -> str:
    """`text` with control characters written out, but for ends of lines and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
