"""Tables on the terminal, row by row as results come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LEAST = 8


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The last column may be of any width."""
    widths = [max(len(name), LEAST) for name in head[:-1]]
    print(f"\n{title}")
    _line(head, widths)
    for row in rows:
        _line(row, widths)


def _line(row: Sequence[object], widths: Sequence[int]) -> None:
    cells = [str(cell).rjust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
    print("  ".join(cells), flush=True)
