"""``python -m bot.worker --parent PID [--warm]``: lock up, then serve one job.

Started by `bot.executors`. With ``--warm`` the heavy libraries are loaded before the job is known.
"""

import argparse
from dataclasses import asdict

from bot.worker.protocol import take_over_stdio
from bot.worker.sandbox import Unclean, lock


def main() -> None:
    parser = argparse.ArgumentParser(prog="bot.worker")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--warm", action="store_true")
    options = parser.parse_args()

    channel = take_over_stdio()
    try:
        sandbox = lock(options.parent)
    except (Unclean, OSError) as error:
        channel.send({"error": {"code": "sandbox", "message": str(error)}})
        raise SystemExit(1) from error
    channel.send({"sandbox": asdict(sandbox)})
    # Not before: numpy starts threads, and a process with threads cannot enter a namespace.
    from bot.worker.serve import serve

    serve(channel, warm=options.warm)


if __name__ == "__main__":
    main()
