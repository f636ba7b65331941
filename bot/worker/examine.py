"""Task ``examine``: read every tensor of a stranger once; one line with what was found.

The fields are those of `merge.fingerprints.Health`.
"""

from dataclasses import asdict

from bot.worker.jobs import Examine
from bot.worker.protocol import Channel
from merge.fingerprints import examine


def run(job: Examine, channel: Channel) -> None:
    channel.send(asdict(examine(job.weights, job.base)))
