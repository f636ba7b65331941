"""Task ``picture``: a PNG for a model page, drawn from figures alone.

``categories``: scores per category, one mark per model with its 95 % interval.

    {"title": "...", "categories": ["add", "mod"],
     "series": [{"name": "ORG/soup", "role": "soup", "values": [0.6, 0.5], "stderr": [0.05, 0.05]}]}

roles: soup, member, base; values in [0, 1]; null for what was not measured.

``router``: quality against diversity, one line per router through its settings.

    {"title": "...", "diversity": "axis label", "quality": "axis label",
     "points": [{"name": "0.2", "line": "P-PUNC", "role": "router", "diversity": 0.5,
                 "quality": -1.1, "diversity_stderr": 0.01, "quality_stderr": 0.1, "chosen": true}]}

roles: router, control (what a router must beat), model (one of the two alone). The two ``_stderr``
and ``chosen`` may be left out.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; shapes differ too. The
same figures give the same bytes under the same version of matplotlib. Names are drawn as plain
text, cut to a readable length, never read as markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bot.worker.jobs import Picture
from bot.worker.protocol import Channel, ProtocolError

_BLUE, _GREY = "#0072B2", "#767676"
_OTHERS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_MARKERS = ("s", "^", "v", "P", "X", "*", "<", ">")
_INTERVAL = 1.96  # standard errors on either side: 95 % of a normal
_LONGEST = 48  # characters of a name
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def run(job: Picture, channel: Channel) -> None:
    if job.kind not in _DRAW:
        raise ProtocolError(f"no picture of kind {job.kind!r}")
    draw(job.kind, job.data, job.out)
    channel.send({"picture": job.out.name})


def draw(kind: str, data: Mapping[str, Any], out: Path) -> None:
    """Write the picture of `kind` to `out`."""
    with mpl.rc_context(_STYLE):
        figure = _DRAW[kind](data)
        figure.savefig(out, format="png", dpi=150, metadata={"Software": None})


def _categories(data: Mapping[str, Any]) -> Figure:
    names, series = data["categories"], data["series"]
    rows = range(len(names))
    height = 1.6 + len(names) * max(0.4, 0.13 * (len(series) + 1))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    for place, (model, look) in enumerate(zip(series, _looks(series), strict=True)):
        shift = 0.7 * ((place + 0.5) / len(series) - 0.5)  # within the row's band of 0.7
        seen = [row for row in rows if model["values"][row] is not None]
        values = [100 * model["values"][row] for row in seen]
        reach = [100 * _INTERVAL * (model["stderr"][row] or 0.0) for row in seen]
        left = [min(r, v) for r, v in zip(reach, values, strict=True)]  # none below 0 %,
        right = [min(r, 100 - v) for r, v in zip(reach, values, strict=True)]  # none above 100 %
        axes.errorbar(
            values,
            [row + shift for row in seen],
            xerr=(left, right),
            label=_name(model["name"]),
            **look.arguments(),
        )
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.set(
        yticks=list(rows),
        yticklabels=[_name(name) for name in names],
        ylim=(len(names) - 0.5, -0.5),
        xlabel="right answers, %  (bars: 95 % interval)",
    )
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    _finish(figure, axes, data)
    return figure


def _router(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for point in data["points"]:
        lines.setdefault((point["role"], point["line"]), []).append(point)
    routers = iter(zip((_BLUE, *_OTHERS), ("o", *_MARKERS), strict=False))
    for (role, line), points in lines.items():
        colour, marker = next(routers, (_BLUE, "o")) if role == "router" else (_GREY, "D")
        _line(axes, _name(line), role, points, _Look(colour, marker, 5.0 + 3 * (role == "model")))
    for point in data["points"]:
        if point.get("chosen"):
            axes.plot(
                point["diversity"], point["quality"], "o", ms=14, mfc="none", mec="black",
                label="published default",
            )  # fmt: skip
    axes.set(xlabel=_name(data["diversity"]), ylabel=_name(data["quality"]))
    axes.grid(color="#dddddd", linewidth=0.6)
    _finish(figure, axes, data)
    return figure


_DRAW = {"categories": _categories, "router": _router}


@dataclass(frozen=True)
class _Look:
    """How one model or line is drawn."""

    colour: str
    marker: str
    size: float
    hollow: bool = False
    line: str = "none"

    def arguments(self) -> dict[str, Any]:
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": self.size,
            "markerfacecolor": "white" if self.hollow else self.colour,
            "linestyle": self.line,
            "linewidth": 1.2,
            "elinewidth": 0.9,
            "capsize": 1.5,
            "zorder": 3,
        }


def _looks(series: Sequence[Mapping[str, Any]]) -> list[_Look]:
    """The soup stands out, the base is hollow, members differ by colour and shape."""
    looks, members = [], 0
    for model in series:
        if model["role"] == "soup":
            looks.append(_Look(_BLUE, "o", 7.5))
        elif model["role"] == "base":
            looks.append(_Look(_GREY, "D", 5.0, hollow=True))
        else:
            colour = _OTHERS[members % len(_OTHERS)]
            looks.append(_Look(colour, _MARKERS[members % len(_MARKERS)], 5.0))
            members += 1
    return looks


def _line(
    axes: Axes, name: str, role: str, points: Sequence[Mapping[str, Any]], look: _Look
) -> None:
    ordered = sorted(points, key=lambda point: point["diversity"])
    dashes = {"router": "-", "control": "--"}.get(role, "none")
    axes.errorbar(
        [point["diversity"] for point in ordered],
        [point["quality"] for point in ordered],
        xerr=[_INTERVAL * (point.get("diversity_stderr") or 0.0) for point in ordered],
        yerr=[_INTERVAL * (point.get("quality_stderr") or 0.0) for point in ordered],
        label=name,
        **look.arguments() | {"linestyle": dashes},
    )
    for point in ordered:
        axes.annotate(
            _name(point["name"]),
            (point["diversity"], point["quality"]),
            textcoords="offset points",
            xytext=(5, 4),
            fontsize=7,
            color=look.colour,
        )


def _finish(figure: Figure, axes: Axes, data: Mapping[str, Any]) -> None:
    if title := data.get("title"):
        axes.set_title(_name(title), loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower left", ncols=2, fontsize=8)


def _name(text: object) -> str:
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
