"""Task ``examine``: read every tensor of a stranger once; one line with what was found.

The fields are those of `merge.fingerprint.Health`.
"""

from dataclasses import asdict

from merge.fingerprint import examine

from bot.worker.jobs import Examine
from bot.worker.protocol import Channel


def run(job: Examine, channel: Channel) -> None:
    channel.send(asdict(examine(job.weights, job.base)))
