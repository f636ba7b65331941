"""Task ``evaluate``: score one set of weights, one line per category as it finishes.

    {"category": "add", "value": 0.61, "n": 83, "stderr": 0.054, "outcomes": "0110..."}

`value` is the share of right answers, `stderr` that of the mean (null for a single item),
`outcomes` one mark per item in the order of the split.
"""

import math
from collections.abc import Mapping

from bot.engines.lm_eval import harness_model, harness_task, outcomes
from bot.worker import models
from bot.worker.jobs import Evaluate
from bot.worker.protocol import Channel
from bot.worker.questions import questions
from merge.outcomes import Outcomes
from merge.splits import Split


def run(job: Evaluate, channel: Channel) -> None:
    categories = questions(job.suite, job.seed, job.shares, job.split, job.categories)
    model = models.load_model(job.config, job.weights)
    lm = harness_model(model, models.tokenizer(job.config))
    for category in categories:
        marks = outcomes(lm, harness_task(category))
        channel.send(scored(category.name, Split(job.split), marks))


def scored(category: str, split: Split, marks: str) -> Mapping[str, object]:
    """The line for one category."""
    score = Outcomes.from_bits(split, {category: marks}).score(category)
    return {
        "category": category,
        "value": score.value,
        "n": score.n,
        "stderr": None if math.isnan(score.stderr) else score.stderr,
        "outcomes": marks,
    }
