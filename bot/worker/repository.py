"""Task ``repository``: the code and configuration of a router as the Hub will have them.

One line names the files. The card is not among them: the daemon writes it.
"""

from bot.worker.jobs import Repository
from bot.worker.protocol import Channel
from route.config import RouterConfig
from route.hubrepo import repository_files


def run(job: Repository, channel: Channel) -> None:
    files = repository_files(RouterConfig.from_json(job.config))
    for path, content in files.items():
        target = job.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    channel.send({"files": sorted(files)})
