"""Task ``trials``: a server for a weight search; the live model and the mapped members stay.

    <- {"ready": true, "items": {"add": 62, ...}}
    -> {"trial": "17", "weights": ["1/2", "1/2", "0"]}      and, if wanted, "items": {"add": [0, 5]}
    <- {"trial": "17", "outcomes": {"add": "0110...", ...}}

Weights are exact shares in the order of the members. `items` are positions in the split; items not
asked for come back as "-". The server ends when the other side closes its end.
"""

from collections.abc import Mapping
from fractions import Fraction

from bot.engines.light import LightScorer, Positions
from bot.engines.lm_eval import harness_model
from bot.worker import models
from bot.worker.jobs import Trials
from bot.worker.protocol import Channel, ProtocolError
from bot.worker.questions import questions


def run(job: Trials, channel: Channel) -> None:
    categories = questions(job.suite, job.seed, job.shares, job.split, job.categories)
    model = models.empty_model(job.config)
    soup = models.live_soup(model, job.members)
    scorer = LightScorer(harness_model(model, models.tokenizer(job.config)), categories)
    channel.send({"ready": True, "items": {c.name: len(c.items) for c in categories}})
    while (asked := channel.receive()) is not None:
        soup.write(_weights(asked.get("weights"), len(job.members)))
        outcomes = scorer.outcomes(_positions(asked.get("items")))
        channel.send({"trial": asked.get("trial"), "outcomes": outcomes})


def _weights(raw: object, members: int) -> list[Fraction]:
    if not isinstance(raw, list) or len(raw) != members:
        raise ProtocolError(f"a trial needs {members} weights, not {raw!r:.80}")
    try:
        return [Fraction(str(weight)) for weight in raw]
    except (ValueError, ZeroDivisionError) as error:
        raise ProtocolError(f"a weight must be an exact share like '4/10': {error}") from error


def _positions(raw: object) -> Positions | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or not all(
        isinstance(items, list) and all(type(item) is int and item >= 0 for item in items)
        for items in raw.values()
    ):
        raise ProtocolError("the items of a trial must be positions by category")
    return raw
