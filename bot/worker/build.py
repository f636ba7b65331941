"""Task ``build``: write a soup's weights into a folder.

    {"progress": 1048576, "total": 2490368}                       bytes, now and then
    {"files": {"model.safetensors": {"sha256": "...", "size": 2490368}}, "seconds": {"merge": ...}}

Config and tokenizer are not written here: they are the operator's, and the daemon copies them.
"""

from dataclasses import asdict
from fractions import Fraction

import torch

from bot.worker.jobs import Build
from bot.worker.protocol import Channel
from bot.worker.teller import Teller
from merge.soup import plan_soup, write_soup


def run(job: Build, channel: Channel) -> None:
    members = [(member.weights, Fraction(member.weight)) for member in job.members]
    plan = plan_soup(members, reference=job.base, dtype=job.dtype)
    report = write_soup(plan, job.out, threads=torch.get_num_threads(), progress=Teller(channel))
    files = {n: {"sha256": f.sha256, "size": f.size} for n, f in report.files.items()}
    channel.send({"files": files, "seconds": asdict(report.seconds)})
