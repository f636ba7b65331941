"""Work for several threads, each with single-threaded torch; the first failure wins.

torch's own threads spin at barriers and doubled run times on a machine with one busy core, so
every worker turns them off for itself. The setting of the calling thread is restored. What workers
compute, they compute in plain arithmetic.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from merge.arithmetic import plain_arithmetic


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def in_threads(count: int, work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `work` in `count` threads until all return.

    When one raises, or the caller is interrupted, `stop` is called, which must make the others
    return soon; then the first exception is raised here.
    """
    failures: list[BaseException] = []

    def body() -> None:
        if torch is not None:
            torch.set_num_threads(1)
        try:
            with plain_arithmetic():
                work()
        except BaseException as failure:  # noqa: BLE001 - raised again below
            failures.append(failure)
            stop()

    torch = sys.modules.get("torch")  # where nobody has loaded it there is nothing to turn off
    before = torch.get_num_threads() if torch is not None else 0
    workers = [threading.Thread(target=body, daemon=True) for _ in range(count)]
    interrupts: list[BaseException] = []
    try:
        for worker in workers:
            worker.start()
    except BaseException as interrupt:  # noqa: BLE001 - raised again below
        interrupts.append(interrupt)
        stop()
    # However often the caller is interrupted: what threads hold must not be closed under them.
    while True:
        try:
            for worker in workers:
                if worker.ident is not None:
                    worker.join()
            break
        except BaseException as interrupt:  # noqa: BLE001 - raised again below
            interrupts.append(interrupt)
            stop()
    if torch is not None:
        torch.set_num_threads(before)
    if interrupts or failures:
        raise (*interrupts, *failures)[0]
