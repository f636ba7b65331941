"""A table of scores: one row per model, one column per benchmark category, nan = missing.

`read_csv` reads the table that people have: first column the model, then anything; columns that
hold only numbers become categories. Scores may be shares or percent; nothing here depends on the
unit.

Not promised: that columns are comparable with each other. Averages of other columns (an "Overall"
beside its parts) are taken as they come; name the columns to leave them out.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, list[str]]  # line of the file, stripped cells

MISSING = frozenset({"", "NA", "N/A"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class BadTable(ValueError):
    """Wrong input in a score table; names the row and the column where there is one."""

    def __init__(self, problem: str, *, row: str | None = None, column: str | None = None) -> None:
        self.problem, self.row, self.column = problem, row, column
        place = [f"row {row}" if row else "", f"column {column!r}" if column else ""]
        super().__init__(": ".join(filter(None, [", ".join(filter(None, place)), problem])))


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """values: [M models, C categories] float64, nan where a score is missing. notes: what a reader
    left out of the table, a sentence each."""

    models: tuple[str, ...]
    categories: tuple[str, ...]
    values: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        if values.shape != (len(self.models), len(self.categories)):
            raise BadTable(
                f"{values.shape} values for {len(self.models)} models"
                f" and {len(self.categories)} categories"
            )
        _refuse_repeats("model", self.models)
        _refuse_repeats("category", self.categories)
        if np.isinf(values).any():
            m, c = np.argwhere(np.isinf(values))[0]
            raise BadTable("a score is finite", row=self.models[m], column=self.categories[c])
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @classmethod
    def from_rows(
        cls, rows: Mapping[str, Mapping[str, float | None]], categories: Sequence[str] | None = None
    ) -> ScoreTable:
        """From model -> category -> score; None or an absent key is missing, NaN is an error.
        Categories default to those of all rows in order of first appearance."""
        names = dict.fromkeys(c for row in rows.values() for c in row)
        columns = tuple(names if categories is None else categories)
        values = np.full((len(rows), len(columns)), np.nan)
        for m, (model, row) in enumerate(rows.items()):
            for c, category in enumerate(columns):
                score = row.get(category)
                if score is None:
                    continue
                if not math.isfinite(score):
                    raise BadTable(f"{score} is not a score", row=model, column=category)
                values[m, c] = score
        return cls(tuple(rows), columns, values)

    def rows_of(self, models: Sequence[str]) -> NDArray[np.intp]:
        """Row indices, in table order whatever the order asked. Raises BadTable for unknown or
        repeated names."""
        _refuse_repeats("candidate", models)
        place = {model: i for i, model in enumerate(self.models)}
        for model in models:
            if model not in place:
                near = get_close_matches(model, self.models, 1)
                raise BadTable(f"unknown model {model!r}" + (f"; {near[0]!r}?" if near else ""))
        return np.array(sorted(place[model] for model in models), np.intp)

    def score(self, model: str, category: str) -> float:
        return float(self.values[self.models.index(model), self.categories.index(category)])


def read_csv(path: Path | str, columns: Sequence[str] | None = None) -> ScoreTable:
    """Read a score table. First column: the model. Empty cells, NA and N/A are missing.

    columns: the categories, in this order. Without it: every column with a heading whose cells
    are all numbers or missing; the others are told in `notes`. Raises BadTable, naming row (line
    of the file) and column: an unknown or repeated column, a repeated or empty model, text in a
    named column, nan or infinity, a ragged row, a quote that is never closed.
    """
    header, rows = _read_rows(Path(path))
    place = {name: i for i, name in enumerate(header)}
    notes: list[str] = []
    if columns is None:
        chosen, notes = _score_columns(header, rows)
    else:
        chosen = _named_columns(columns, header)
    values = [[_score(row[place[name]], line, name) for name in chosen] for line, row in rows]
    models = tuple(row[0] for _, row in rows)
    array = np.array(values, np.float64).reshape(len(models), len(chosen))
    return ScoreTable(models, tuple(chosen), array, tuple(notes))


def _score_columns(header: list[str], rows: list[Row]) -> tuple[list[str], list[str]]:
    """The columns that hold only numbers, and a sentence for each of the others."""
    chosen, notes = [], []
    for i, name in enumerate(header[1:], start=1):
        text = next(((line, row[i]) for line, row in rows if not _is_number(row[i])), None)
        if not name:
            notes.append(f"column {i + 1} has no heading and is left out")
        elif text is not None:
            notes.append(f"column {name!r} is left out: row {text[0]} holds {text[1]!r:.60}")
        else:
            chosen.append(name)
    if not chosen:
        raise BadTable("; ".join(["no column holds only numbers", *notes]))
    return chosen, notes


def _named_columns(columns: Sequence[str], header: list[str]) -> list[str]:
    chosen = [name.strip() for name in columns]
    _refuse_repeats("column", chosen)
    if not chosen:
        raise BadTable("no column is named")
    for name in chosen:
        if not name or name not in header[1:]:
            there = ", ".join(filter(None, header[1:]))
            raise BadTable(f"no score column of that name; there are {there}", column=name)
    return chosen


def parse_names(text: str) -> tuple[str, ...]:
    """Names from one comma-separated argument; a name that holds a comma stands in quotes. Raises
    BadTable for what is no such line."""
    try:
        fields = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise BadTable(f"{text!r} are no comma-separated names: {error}") from None
    return tuple(name.strip() for name in fields if name.strip())


def _read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """The header and (line number, cells) per model, every cell stripped."""
    try:
        return _parse_rows(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadTable(f"the file is not UTF-8 text (byte {error.start})") from None


def _parse_rows(text: str) -> tuple[list[str], list[Row]]:
    lines = _lines(text)
    _, header = next(lines, (1, []))
    if len(header) < 2:
        raise BadTable("a table has a model column and at least one more", row="1")
    for name in filter(None, header):
        if header.count(name) > 1:
            raise BadTable("the heading appears twice", row="1", column=name)
    rows = []
    first_line: dict[str, int] = {}
    for line, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(header):
            first = header[len(cells)] if len(cells) < len(header) else str(len(header) + 1)
            problem = f"{len(cells)} cells under {len(header)} headings"
            raise BadTable(problem, row=str(line), column=first)
        model = cells[0]
        if not model:
            raise BadTable("the model has no name", row=str(line), column=header[0])
        if model in first_line:
            problem = f"model {model!r} stands in row {first_line[model]} already"
            raise BadTable(problem, row=str(line), column=header[0])
        first_line[model] = line
        rows.append((line, cells))
    return header, rows


def _lines(text: str) -> Iterator[Row]:
    """Line number and stripped cells. Strict: a quote that is never closed would take all models
    below it for one cell."""
    reader = csv.reader(io.StringIO(text), strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadTable(f"not CSV: {error}", row=str(begun)) from None
        if cells is None:
            return
        yield reader.line_num, [cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    """nan and infinities count as numbers here, so that they are refused, not skipped over."""
    return cell in MISSING or bool(_NUMBER.fullmatch(cell)) or _not_finite(cell)


def _not_finite(cell: str) -> bool:
    return cell.lower().lstrip("+-") in {"nan", "inf", "infinity"}


def _score(cell: str, line: int, column: str) -> float:
    if cell in MISSING:
        return math.nan
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(value):
        raise BadTable(f"{cell!r} is not a score", row=str(line), column=column)
    return value


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadTable(f"{what} {name!r} appears twice")
        seen.add(name)
