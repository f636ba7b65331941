"""The recorded figures as the tables of `docs/zoo.md`: scores in per cent, margins in points."""

from collections.abc import Sequence

from bot.zoo.figures import ActFigures, Figures, Margin
from bot.zoo.pair import Prose

ACTS = ("first day", "second act")
_MEANS = {"uniform": "the plain mean of the experts", "uniform-all": "the plain mean of everybody"}
_OTHERS = {"base": "the base", "incumbent": "the first day's soup"}


def all_tables(found: Sequence[Figures]) -> list[str]:
    """Overview first, then what is known of the family that ships (the last one given)."""
    shipped = found[-1]
    acts = [table(act) for act in shipped.acts for table in (scores, margins)]
    return [overview(found), *acts, pair(shipped)]


def scores(act: ActFigures) -> str:
    """One row a model: per cent of report items right by category, and their mean."""
    categories = list(next(iter(act.scores.values())))
    rows = []
    for name, values in act.scores.items():
        cells = [values[c] for c in categories]
        shown = map(_percent, [*cells, sum(cells) / len(cells)])
        rows.append([_soup(act) if name == "soup" else name, *shown])
    return _table(["", *categories, "mean"], rows)


def margins(act: ActFigures) -> str:
    """One row a rival: the soup minus it."""
    rows = [[_rival(act, rival), *_interval(margin)] for rival, margin in act.margins.items()]
    return _table(["soup minus", "points", "interval"], rows)


def overview(found: Sequence[Figures]) -> str:
    """One row a regime and act."""
    rows = []
    for one in found:
        for label, act in zip(ACTS, one.acts, strict=True):
            best, mean, soup = (
                _percent(sum(act.scores[name].values()) / len(act.scores[name]))
                for name in (act.best_member, "uniform", "soup")
            )
            against = [" ".join(_interval(act.margins[r])) for r in (act.best_member, "uniform")]
            rows.append(
                [f"`{one.regime}`, {label}", f"{act.best_member} {best}", mean, soup, *against]
            )
    heads = ["regime", "best member", "plain mean", "soup", "soup - best member", "soup - mean"]
    return _table(heads, rows)


def pair(found: Figures) -> str:
    """One row a model of the routing pair."""
    heads = ["", "quality", "topic", "form", "ending", "distinct-2", "self-BLEU", "words"]
    return _table(heads, [[f"`{name}`", *_prose(prose)] for name, prose in found.pair.items()])


def _prose(p: Prose) -> list[str]:
    shares = (p.quality, p.topic, p.form, p.ending, p.distinct_2, p.self_bleu)
    return [*(f"{share:.2f}" for share in shares), f"{p.words:.1f}"]


def _soup(act: ActFigures) -> str:
    return f"soup ({', '.join(f'{name} {w}' for name, w in act.weights.items())})"


def _rival(act: ActFigures, rival: str) -> str:
    told = {**_MEANS, **_OTHERS}.get(rival, f"`{rival}`")
    return f"{told}, the best member on tune items" if rival == act.best_member else told


def _interval(m: Margin) -> list[str]:
    return [f"{100 * m.mean:+.2f}", f"({100 * m.low:+.2f} to {100 * m.high:+.2f})"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))
