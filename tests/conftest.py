"""Beside other test processes torch takes one core, as do the programs that tests start."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
