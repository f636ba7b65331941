"""Pictures: the same figures give the same bytes, and names are never markup."""

import struct
import zlib

import pytest

from bot.worker.jobs import Picture
from bot.worker.picture import draw, run
from bot.worker.protocol import ProtocolError

SCORES = {
    "split": "report",
    "categories": ["add", "$x^2$", "a\nb"],
    "models": [
        {"name": "stockpot/soup", "role": "soup", "values": [0.6, 0.9, None], "stderr": [0.05] * 3},
        {
            "name": "tiny/$\\frac{1}{$",
            "role": "ingredient",
            "values": [0.5] * 3,
            "stderr": [0.1] * 3,
        },
        {"name": "x" * 200, "role": "ingredient", "values": [1.0] * 3, "stderr": [None, 0.1, 0.0]},
        {"name": "tiny/base", "role": "base", "values": [0.1] * 3, "stderr": [0.2] * 3},
    ],
}


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def setting(kind, diversity, quality, **more):
    return {
        "kind": kind,
        "temperature": 1.0,
        "diversity": estimate(diversity),
        "quality": estimate(quality),
        **more,
    }


ROUTER = {
    "router": "p-punc",
    "share": 0.2,
    "calibration": {
        "diversity": "distinct words",
        "quality": "likelihood",
        "held_out": [
            setting("aligned", 0.1, 0.9),
            setting("aligned", 0.2, 0.7, temperature=1.3),
            setting("aligned", 0.25, 0.75, temperature=2.0, min_p=0.1),
            setting("base", 0.9, 0.1),
            setting("router", 0.3, 0.8, router="p-punc", target=0.1, threshold=0.2),
            setting("router", 0.5, 0.7, router="p-punc", target=0.2, threshold="always"),
            setting("control", 0.4, 0.6, router="rand", target=0.1),
            setting("control", 0.45, 0.6, router="rand-punc", target=0.2),
        ],
    },
}


def chunks(png):
    """Names of a PNG's chunks, each checked against its sum."""
    names, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(body),)
        names.append(body[:4])
        at += 12 + length
    return names


@pytest.mark.parametrize(("kind", "data"), [("categories", SCORES), ("router", ROUTER)])
def test_same_figures_same_bytes(tmp_path, kind, data):
    draw(kind, data, tmp_path / "a.png")
    draw(kind, data, tmp_path / "b.png")
    png = (tmp_path / "a.png").read_bytes()
    assert png == (tmp_path / "b.png").read_bytes()
    assert set(chunks(png)) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}  # no time, no text
    assert len(png) < 200_000


def test_other_figures_other_bytes(tmp_path):
    draw("categories", SCORES, tmp_path / "a.png")
    better = {**SCORES["models"][0], "values": [0.7, 0.9, None]}
    draw("categories", {**SCORES, "models": [better, *SCORES["models"][1:]]}, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def width(file):
    return struct.unpack(">I", file.read_bytes()[16:20])[0]


def test_a_router_without_threshold_has_no_curve(tmp_path):
    fixed = setting("router", 0.3, 0.8, router="punc")
    data = {**ROUTER, "router": "punc", "share": None}
    data["calibration"] = {**ROUTER["calibration"], "held_out": [fixed]}
    draw("router", ROUTER, tmp_path / "curve.png")
    draw("router", data, tmp_path / "fixed.png")
    assert width(tmp_path / "fixed.png") < width(tmp_path / "curve.png")


def test_an_unknown_picture_is_refused(tmp_path):
    with pytest.raises(ProtocolError, match="no picture of kind 'cake'"):
        run(Picture("cake", {}, tmp_path / "x.png"), None)
