from pathlib import Path

import numpy as np
import pytest

from merge.scores import BadTable, ScoreTable, parse_names, read_csv


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_only_columns_of_numbers_are_categories(table) -> None:
    path = table("Model,Org,Math,Code,Note\nx,Acme,1,2.5,\ny,Beta,NA,-3e1,N/A\n")
    read = read_csv(path)
    assert read.models == ("x", "y")
    assert read.categories == ("Math", "Code", "Note")
    np.testing.assert_array_equal(read.values, [[1, 2.5, np.nan], [np.nan, -30, np.nan]])


def test_named_columns_keep_the_order_asked(table) -> None:
    path = table("Model,a,b,c\nx,1,2,3\n")
    assert read_csv(path, ["c", " a"]).categories == ("c", "a")


def test_spreadsheets_are_read(table) -> None:
    path = table('\ufeffModel,"a, b",\r\n"x, y", 1 ,\r\n\r\n')
    read = read_csv(path)
    assert (read.models, read.categories) == (("x, y",), ("a, b",))


@pytest.mark.parametrize(
    ("text", "columns", "places"),
    [
        ("M,a\nx,1\ny,high\n", ["a"], ["row 3", "'a'", "'high'"]),
        ("M,a\nx,1\ny,nan\n", None, ["row 3", "'a'", "'nan'"]),
        ("M,a\nx,-inf\n", ["a"], ["row 2", "'a'"]),
        ("M,a\nx,1_0\n", ["a"], ["row 2", "'a'"]),
        ("M,a\nx,1\nx,2\n", None, ["row 3", "row 2", "'x'"]),
        ("M,a\n,1\n", None, ["row 2", "'M'"]),
        ("M,a\nx,1,2\n", None, ["row 2"]),
        ("M,a,a\nx,1,2\n", None, ["'a'", "twice"]),
        ("M,a\nx,1\n", ["b"], ["'b'"]),
        ("M,a\nx,1\n", ["M"], ["'M'"]),
        ("M,a\nx,1\n", ["a", "a"], ["'a'", "twice"]),
        ("M,a\nx,text\n", None, ["only numbers"]),
        ("", None, ["row 1"]),
    ],
)
def test_wrong_input_names_its_place(table, text, columns, places) -> None:
    with pytest.raises(BadTable) as caught:
        read_csv(table(text), columns)
    for place in places:
        assert place in str(caught.value)


def test_rows_refuse_nan_and_name_the_cell() -> None:
    with pytest.raises(BadTable, match=r"row m, column 'a'"):
        ScoreTable.from_rows({"m": {"a": float("nan")}})
    with pytest.raises(BadTable, match="finite"):
        ScoreTable(("m",), ("a",), np.array([[np.inf]]))
    with pytest.raises(BadTable, match="'m' appears twice"):
        ScoreTable(("m", "m"), ("a",), np.zeros((2, 1)))


def test_absent_scores_are_missing() -> None:
    rows = ScoreTable.from_rows({"m": {"a": 1.0}, "n": {"b": 2.0, "a": None}})
    np.testing.assert_array_equal(rows.values, [[1, np.nan], [np.nan, 2]])
    assert rows.score("n", "b") == 2


def test_a_quoted_name_may_hold_a_comma() -> None:
    assert parse_names('a, "b, c",d,') == ("a", "b, c", "d")


@pytest.mark.parametrize("line", ["a\nb", 'a,"b', '"a"b'])
def test_names_that_are_no_line_are_refused(line: str) -> None:
    with pytest.raises(BadTable, match="no comma-separated names"):
        parse_names(line)


def test_what_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"M,a\nx,\xff\n")
    with pytest.raises(BadTable, match="the file is not UTF-8"):
        read_csv(path)


@pytest.mark.parametrize("cell", ['"' + "x" * 200_000 + '"', '"y', '"y"z'])
def test_a_row_that_is_no_csv_is_named(table, cell: str) -> None:
    """A quote left open would otherwise swallow the models below it, in silence."""
    with pytest.raises(BadTable, match="row 3: not CSV"):
        read_csv(table(f"M,a\nx,1\n{cell},2\nz,3\n"))
