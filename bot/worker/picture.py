"""Task ``picture``: a PNG for a model page, drawn from figures alone.

``categories``: scores per category, one mark per model with its 95 % interval.

    {"categories": ["add", "mod"], "split": "report",
     "models": [{"name": "ORG/soup", "role": "soup", "values": [0.6, 0.5], "stderr": [0.05, 0.05]}]}

role: soup, base, or anything else for an ingredient; values in [0, 1]; null for what was not
measured.

``router``: quality against diversity on the held-out prompts, a line per router through its
settings, and its controls; beside it the threshold of each base share, where the router has one;
the data are the object of a ``router.json`` with its calibration.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; shapes differ too. The
same figures give the same bytes under the same version of matplotlib. Names are drawn as plain
text, cut to a readable length, never read as markup.
"""

import textwrap
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
_LONGEST, _AXIS = 48, 110  # characters of a name, of an axis label
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
    names, models = data["categories"], data["models"]
    rows = range(len(names))
    height = 1.6 + len(names) * max(0.4, 0.13 * (len(models) + 1))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    for place, (model, look) in enumerate(zip(models, _looks(models), strict=True)):
        shift = 0.7 * ((place + 0.5) / len(models) - 0.5)  # within the row's band of 0.7
        seen = [row for row in rows if model["values"][row] is not None]
        values = [100 * model["values"][row] for row in seen]
        reach = [100 * _INTERVAL * (model["stderr"][row] or 0.0) for row in seen]
        left = [min(r, v) for r, v in zip(reach, values, strict=True)]  # none below 0 %,
        right = [min(r, 100 - v) for r, v in zip(reach, values, strict=True)]  # none above 100 %
        heights = [row + shift for row in seen]
        label = _name(model["name"])
        axes.errorbar(values, heights, xerr=(left, right), label=label, **look.arguments())
    for row in rows[::2]:
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.set(
        yticks=list(rows),
        yticklabels=[_name(name) for name in names],
        ylim=(len(names) - 0.5, -0.5),
        xlabel=f"right answers on the {_name(data['split'])} items, %  (bars: 95 % interval)",
    )
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    _legend(figure, axes)
    return figure


def _router(data: Mapping[str, Any]) -> Figure:
    calibration = data["calibration"]
    curve = [(one["target"], one["threshold"]) for one in calibration["held_out"] if _numeric(one)]
    figure = Figure(figsize=(9.6 if curve else 7.2, 5.0), layout="constrained")
    if curve:
        axes, side = figure.subplots(1, 2, width_ratios=(3, 1))
        _thresholds(side, sorted(curve), str(data["router"]).upper())
    else:
        axes = figure.subplots()
    _plane(axes, data)
    _legend(figure, axes)
    return figure


def _numeric(setting: Mapping[str, Any]) -> bool:
    """Whether it is a point of the router's curve from share to threshold."""
    number = isinstance(setting.get("threshold"), float | int)
    return setting["kind"] == "router" and setting.get("target") is not None and number


def _thresholds(axes: Axes, curve: Sequence[tuple[float, float]], name: str) -> None:
    shares, thresholds = zip(*curve, strict=True)
    axes.plot([100 * share for share in shares], thresholds, "o-", color=_BLUE, linewidth=1.2)
    axes.set(xlabel="base share asked for, %", ylabel=f"threshold of {_name(name)}")
    axes.grid(color="#dddddd", linewidth=0.6)


def _plane(axes: Axes, data: Mapping[str, Any]) -> None:
    calibration = data["calibration"]
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for setting in calibration["held_out"]:
        lines.setdefault(_line_of(setting), []).append(setting)
    others = iter(_MARKERS)
    for (kind, name), settings in lines.items():
        look = _LINES[kind] if kind in _LINES else _Look(_GREY, next(others), 4.5, line=":")
        label = f"{name} (control)" if kind == "control" else name
        _line(axes, label, settings, look)
    for setting in lines.get(("router", str(data["router"]).upper()), ()):
        if setting.get("target") == data.get("share"):
            centre = setting["diversity"]["value"], setting["quality"]["value"]
            axes.plot(*centre, "o", ms=15, mfc="none", mec="black", label="published default")
    axes.set(
        xlabel=_axis("diversity", calibration),
        ylabel=_axis("quality", calibration),
    )
    axes.grid(color="#dddddd", linewidth=0.6)


def _line_of(setting: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of the line that a setting lies on."""
    kind = setting["kind"]
    if kind in _BY_SHARE:
        return kind, setting["router"].upper()
    if (min_p := setting.get("min_p")) is not None:
        return "min-p", f"{kind} alone, min-p {min_p:g}"
    return kind, f"{kind} alone"


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


_BY_SHARE = ("router", "control")
_LINES = {
    "router": _Look(_BLUE, "o", 7.0, line="-"),
    "aligned": _Look("#D55E00", "s", 6.0, line="--"),
    "min-p": _Look("#E69F00", "p", 6.0, line="--"),
    "base": _Look("#009E73", "D", 6.0),
}


def _looks(models: Sequence[Mapping[str, Any]]) -> list[_Look]:
    """The soup stands out, the base is hollow, ingredients differ by colour and shape."""
    looks, ingredients = [], 0
    for model in models:
        if model["role"] == "soup":
            looks.append(_Look(_BLUE, "o", 7.5))
        elif model["role"] == "base":
            looks.append(_Look(_GREY, "D", 5.0, hollow=True))
        else:
            colour = _OTHERS[ingredients % len(_OTHERS)]
            looks.append(_Look(colour, _MARKERS[ingredients % len(_MARKERS)], 5.0))
            ingredients += 1
    return looks


def _line(axes: Axes, name: str, settings: Sequence[Mapping[str, Any]], look: _Look) -> None:
    """One router through its shares, or one model through its temperatures, with intervals."""
    ordered = sorted(settings, key=lambda setting: setting["diversity"]["value"])
    across = [setting["diversity"] for setting in ordered]
    up = [setting["quality"] for setting in ordered]
    axes.errorbar(
        [estimate["value"] for estimate in across],
        [estimate["value"] for estimate in up],
        xerr=_reach(across),
        yerr=_reach(up),
        label=_name(name),
        **look.arguments(),
    )
    for setting, x, y in zip(ordered, across, up, strict=True):
        target, where = setting.get("target"), (x["value"], y["value"])
        text = f"{target:.0%}" if target is not None else f"T = {setting['temperature']:g}"
        axes.annotate(
            text, where, xytext=(5, 4), textcoords="offset points", fontsize=7, color=look.colour
        )


def _axis(name: str, calibration: Mapping[str, Any]) -> str:
    return textwrap.fill(_name(f"{name}: {calibration[name]}", _AXIS), 56)


def _reach(estimates: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    """Lengths of the bars below and above each value."""
    return (
        [max(0.0, one["value"] - one["low"]) for one in estimates],
        [max(0.0, one["high"] - one["value"]) for one in estimates],
    )


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower left", ncols=2, fontsize=8)


def _name(text: object, longest: int = _LONGEST) -> str:
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"
