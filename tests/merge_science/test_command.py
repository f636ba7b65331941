"""`bot select` against the printed algorithm, written again in exact arithmetic and plain loops."""

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bot.cli.app import app
from bot.cli.exits import Exit
from bot.errors import Misconfigured

RUNNER = CliRunner()
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def printed_algorithm(rows, candidates, columns, tau, absolute) -> dict:
    """SoCE, arXiv 2511.13254, Algorithm 1, steps 1-3, over rows of text; the first is the heading.

    None of our code is used. Signed or absolute, pairwise complete, ties by table order.
    """
    head, body = [c.strip() for c in rows[0]], [[c.strip() for c in row] for row in rows[1:]]
    read = {"": None, "NA": None, "N/A": None}

    def cell(text: str) -> Fraction | None:
        return read[text] if text in read else Fraction(text)

    if columns is None:
        columns = [
            name for k, name in enumerate(head) if k and all(
                row[k] in read or NUMBER.fullmatch(row[k]) for row in body
            )
        ]  # fmt: skip
    table = {row[0]: {c: cell(row[head.index(c)]) for c in columns} for row in body}

    def pearson(a: str, b: str) -> float | None:
        both = [(r[a], r[b]) for r in table.values() if r[a] is not None and r[b] is not None]
        if len(both) < 2:
            return None
        mean_a, mean_b = (sum(pair[k] for pair in both) / len(both) for k in (0, 1))
        cov = sum((x - mean_a) * (y - mean_b) for x, y in both)
        var_a = sum((x - mean_a) ** 2 for x, _ in both)
        var_b = sum((y - mean_b) ** 2 for _, y in both)
        return float(cov) / math.sqrt(var_a * var_b) if var_a and var_b else None

    rho = {a: {b: pearson(a, b) for b in columns} for a in columns}
    weak = []
    for i, a in enumerate(columns):
        for b in columns[i + 1 :]:
            r = rho[a][b]
            if r is not None:
                assume(abs((abs(r) if absolute else r) - tau) > 1e-9)
                if (abs(r) if absolute else r) < tau:
                    weak.append([a, b, r])
    experts = {}
    for c in columns:
        scored = [
            m for m in table if table[m][c] is not None and (not candidates or m in candidates)
        ]
        if scored and any(c in pair for pair in weak):
            experts[c] = max(scored, key=lambda m: table[m][c])  # the first of equals
    members = [m for m in table if m in experts.values()]
    return {"correlations": rho, "weak_pairs": weak, "experts": experts, "members": members}


numbers = st.one_of(
    st.integers(-3, 9).map(str),
    st.decimals(0, 100, places=2).map(str),
    st.sampled_from(["", "NA", "N/A", " 7 ", "+1", ".5", "5.", "1e1", "-2E-1"]),
)
words = st.sampled_from(["Acme", "mit", "1,5", "12 %", "n/a", "1_0", "0x1f"])


@st.composite
def tables(draw) -> list[list[str]]:
    """Score columns and columns of text in any order, models in any number."""
    kinds = draw(st.lists(st.booleans(), min_size=1, max_size=6))
    n = draw(st.integers(2, 9))
    head = ["Model", *(f"c {k}, {'score' if kind else 'text'}" for k, kind in enumerate(kinds))]
    columns = [draw(st.lists(numbers if kind else words, min_size=n, max_size=n)) for kind in kinds]
    return [head, *([f"m {i}", *row] for i, row in enumerate(zip(*columns, strict=True)))]


def write(file: Path, rows: list[list[str]]) -> Path:
    quoted = [",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows]
    file.write_text("\n".join(quoted) + "\n", encoding="utf-8")
    return file


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=tables(),
    some=st.sets(st.integers(0, 8), min_size=1),
    pool=st.booleans(),
    named=st.booleans(),
    tau=st.sampled_from([0.1, -0.25, 0.5, 0.97]),
    absolute=st.booleans(),
)
def test_agrees_with_the_printed_algorithm(tmp_path, rows, some, pool, named, tau, absolute):
    models = [row[0] for row in rows[1:]]
    candidates = [models[i] for i in sorted(some) if i < len(models)] if pool else None
    scores = [name for name in rows[0] if name.endswith("score")]
    columns = scores[::-1] if named else None
    assume(scores and (not pool or candidates))
    command = ["select", str(write(tmp_path / "t.csv", rows)), "--json", "--tau", str(tau)]
    command += ["--candidates", ",".join(candidates)] if candidates else []
    command += ["--columns", ",".join(f'"{name}"' for name in columns)] if columns else []
    command += ["--absolute"] if absolute else []
    result = RUNNER.invoke(app, command)
    assert result.exit_code == Exit.OK, result.output
    found = json.loads(result.stdout)
    expected = printed_algorithm(rows, candidates, columns, tau, absolute)
    assert found["experts"] == expected["experts"]
    assert found["members"] == expected["members"]
    assert [pair[:2] for pair in found["weak_pairs"]] == [p[:2] for p in expected["weak_pairs"]]
    for a, row in expected["correlations"].items():
        assert found["correlations"][a] == {
            b: None if r is None else pytest.approx(r, abs=1e-9) for b, r in row.items()
        }


@pytest.mark.parametrize(
    ("text", "options", "places"),
    [
        ("M,a,b\nx,1,2\ny,3\n", [], ["row 3", "column 'b'"]),
        ("M,a,b\nx,1,2\ny,3,4,5\n", [], ["row 3", "column '4'"]),
        ("M,a,a\nx,1,2\n", [], ["row 1", "column 'a'"]),
        ("M,a\nx,1\nx,2\n", [], ["row 3", "column 'M'", "'x'"]),
        ("M,a,b\nx,1,high\n", ["--columns", "a,b"], ["row 2", "column 'b'", "'high'"]),
        ("M,a,b\nx,1,NaN\n", [], ["row 2", "column 'b'", "'NaN'"]),
        ("M,a\nx,1\n", ["--columns", "z"], ["column 'z'", "there are a"]),
        ("M,a\nx,1\n", ["--columns", ""], ["no column is named"]),
        ("M,a\nalpha,1\n", ["--candidates", "alpa"], ["'alpa'", "'alpha'?"]),
        ("M,a\nx,1\n", ["--candidates", ""], ["at least one candidate"]),
        ("M,a\nx,1\n", ["--tau", "nan"], ["tau"]),
        ("", [], ["row 1"]),
    ],
)
def test_wrong_input_is_one_line_that_names_the_place(tmp_path, text, options, places) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    result = RUNNER.invoke(app, ["select", str(file), *options])
    assert isinstance(result.exception, Misconfigured), result.output
    assert "\n" not in str(result.exception)
    for place in [str(file), *places]:
        assert place in str(result.exception)


def test_columns_that_are_no_scores_are_told(tmp_path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("M,a,,by,b\nx,1,5,Acme,2\ny,2,5,,12 %\nz,3,5,,1\n")
    found = json.loads(RUNNER.invoke(app, ["select", str(file), "--json"]).stdout)
    assert found["correlations"].keys() == {"a"}
    assert found["notes"][:3] == [
        "column 3 has no heading and is left out",
        "column 'by' is left out: row 2 holds 'Acme'",
        "column 'b' is left out: row 3 holds '12 %'",
    ]
    named = json.loads(RUNNER.invoke(app, ["select", str(file), "--json", "--columns", "a"]).stdout)
    assert not any("left out" in note for note in named["notes"])


def test_a_byte_order_mark_and_windows_lines_do_not_matter(tmp_path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"\xef\xbb\xbfM,a,b\r\nx,1,2\r\ny,2,1\r\n")
    found = json.loads(RUNNER.invoke(app, ["select", str(file), "--json"]).stdout)
    assert found["members"] == ["x", "y"]
