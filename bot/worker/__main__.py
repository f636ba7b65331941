"""``python -m bot.worker --parent PID [--template] [--cover FILE ...]``: lock up, serve one job.

Started by `bot.executors`. With ``--template`` it stays and forks a process for every job.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from bot.worker.protocol import take_over_stdio
from bot.worker.sandbox import Unclean, lock


def main() -> None:
    parser = argparse.ArgumentParser(prog="bot.worker")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--template", action="store_true")
    parser.add_argument("--cover", type=Path, action="append", default=[])
    options = parser.parse_args()

    parent = options.parent
    if options.template:
        lock(parent, forks=True, cover=options.cover)
        from bot.worker.template import fork_forever  # as below

        parent = fork_forever()
    channel = take_over_stdio()
    try:
        sandbox = lock(parent, cover=options.cover)
    except (Unclean, OSError) as error:
        channel.send({"error": {"code": "sandbox", "message": str(error)}})
        raise SystemExit(1) from error
    channel.send({"sandbox": asdict(sandbox)})
    # Not before: numpy starts threads, and a process with threads cannot enter a namespace.
    from bot.worker.serve import serve

    serve(channel)


if __name__ == "__main__":
    main()
