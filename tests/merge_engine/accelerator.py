"""A live soup in a model on stand-in devices: a program of its own, since torch never unloads them.

Run with a task in JSON (see `main`); it writes the model's tensors after each write of a soup and
prints what the devices were told to do, as `stand_in.cpp` calls it.
"""

import json
import sys
import types
from fractions import Fraction
from functools import partial
from pathlib import Path

import checkpoints as zoo
import torch
from safetensors.torch import load_file, save_file

from merge.live import LiveSoup


def connect(library):
    """Make the devices known to torch."""
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend("stand_in")
    module = types.ModuleType("stand_in")
    module._lazy_init = lambda: None  # without it torch takes no synchronize for the devices
    torch._register_device_module("stand_in", module)


def spread(like, dtype, places):
    """A model of zeros for tensors with these names and shapes, on the devices named in `places`.

    Float tensors become parameters of that dtype, others buffers.
    """
    zeros = {
        name: torch.zeros_like(x, dtype=dtype if x.is_floating_point() else x.dtype)
        for name, x in like.items()
    }
    return zoo.module_of({name: x.to(places[name]) for name, x in zeros.items()})


def told(action):
    """The result of an action, and what the devices were told to do meanwhile."""
    torch.ops.stand_in.events()
    return action(), torch.ops.stand_in.events()


def follow(task):
    """The events of opening the members, then those of each write; saves the model after each."""
    model = spread(load_file(task["like"]), getattr(torch, task["dtype"]), task["places"])
    state = model.state_dict()
    reference = task["reference"] and Path(task["reference"])
    members = [Path(folder) for folder in task["members"]]
    options = {"reference": reference, "threads": 2, "block": 1024}
    live, opening = told(lambda: LiveSoup(model, members, **options))
    events = [opening]
    for n, parts in enumerate(task["weights"]):
        weights = [Fraction(p, sum(parts)) for p in parts]
        events.append(told(partial(live.write, weights))[1])
        save_file({name: x.cpu() for name, x in state.items()}, f"{task['out']}/{n}.safetensors")
    return events


def main():
    """task: library, like (a file with the tensors' names and shapes), dtype, places (device of
    each tensor), members, reference or null, weights (of each soup, as integers), out."""
    torch.set_num_threads(1)
    task = json.loads(sys.argv[1])
    connect(task["library"])
    print(json.dumps(follow(task)))


if __name__ == "__main__":
    main()
