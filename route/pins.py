"""Which weights a router was calibrated for, and whether the ones at hand are those.

A pin holds a commit sha, a fingerprint of the tensors, or both. A model in float32, bfloat16 or
float16 always tells its fingerprint; its commit only where transformers keeps it (5.23 does not) or
where it was loaded from a snapshot folder of the Hub's cache. The fingerprint reads up to 256
evenly spaced elements of each parameter, rounded to bfloat16, so it does not depend on sharding,
file names or whether the weights were loaded in float32 or bfloat16. float16 cuts what the other
two keep (small numbers, and digits of float32 that rounding once more moves), so its fingerprints
are marked: between a marked one and another, equal ones settle it and different ones tell nothing.
It tells an honest mix-up, no attack.

Not compared: quantised weights, and buffers.
"""

import hashlib
import re
import warnings
from dataclasses import replace
from typing import Any

import torch

from .config import Pin

_SAMPLES = 256
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_HALF = "-float16"  # ends the fingerprint of a model that holds some


class PinMismatch(ValueError):
    """A model is not the one that the router was calibrated for."""


def tensor_fingerprint(model: Any) -> str | None:
    """Sampled digest of the parameters, marked where one is float16; None for other types."""
    sha, mark = hashlib.sha256(b"sampled-bf16-1"), ""
    for name, parameter in sorted(model.named_parameters(), key=lambda item: str(item[0])):
        if parameter.dtype not in _TYPES or parameter.is_meta:
            return None
        if parameter.dtype is torch.float16:
            mark = _HALF
        flat = parameter.detach().reshape(-1)
        count = min(_SAMPLES, flat.numel())
        where = torch.arange(count, device=flat.device) * flat.numel() // max(count, 1)
        sha.update(f"{name}\t{tuple(parameter.shape)}\n".encode())
        sha.update(flat[where].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return sha.hexdigest() + mark


def same_tensors(one: str, other: str) -> bool | None:
    """Whether two fingerprints are of the same tensors; None where they cannot tell."""
    if one.removesuffix(_HALF) == other.removesuffix(_HALF):
        return True
    return False if one.endswith(_HALF) == other.endswith(_HALF) else None


def complete(pinned: Pin, model: Any) -> Pin:
    """`pinned` with what the model itself tells and the pin leaves open."""
    return replace(
        pinned,
        sha=pinned.sha or commit_sha(model),
        fingerprint=pinned.fingerprint or tensor_fingerprint(model),
    )


def commit_sha(model: Any) -> str | None:
    """The Hub commit that the model was loaded from, where that is known."""
    sha = getattr(model.config, "_commit_hash", None)
    if isinstance(sha, str):
        return sha
    snapshot = re.search(r"[/\\]snapshots[/\\]([0-9a-f]{40})/?$", str(model.name_or_path))
    return snapshot[1] if snapshot else None


def check_pin(pinned: Pin, model: Any, side: str) -> None:
    """Raise PinMismatch where `model` is known to be another one; warn where nothing is known.

    The same sha settles it; else the tensors do, since a later commit may only touch the card.
    """
    sha = commit_sha(model)
    if sha is not None and sha == pinned.sha:
        return
    found = tensor_fingerprint(model) if pinned.fingerprint is not None else None
    if found is not None and pinned.fingerprint is not None:
        same = same_tensors(found, pinned.fingerprint)
        if same:
            return
        if same is False:
            raise PinMismatch(_differs(pinned, side, f"its tensors have fingerprint {found[:12]}"))
    if sha is not None and pinned.sha is not None:
        raise PinMismatch(_differs(pinned, side, f"it was loaded from commit {sha}"))
    warnings.warn(
        f"cannot tell whether the {side} model is {pinned.repo}, which this router was calibrated "
        "for: neither its commit nor its tensors can be compared",
        stacklevel=2,
    )


def _differs(pinned: Pin, side: str, found: str) -> str:
    known = [f"commit {pinned.sha}"] if pinned.sha else []
    known += [f"fingerprint {pinned.fingerprint[:12]}"] if pinned.fingerprint else []
    return (
        f"the {side} model is not the one this router was calibrated for: {found}, "
        f"the router names {pinned.repo} ({', '.join(known)}). Load that model, or calibrate anew"
    )
