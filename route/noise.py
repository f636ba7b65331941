"""Random numbers: one row of them per position of a text, and tokens picked by them.

With a generator per row, every position of every row has its own four numbers, so a text depends
neither on the other rows nor on the order in which positions are settled. With one generator, or
torch's default stream, the eager loop draws as transformers' own sampling does.
"""

import torch
from torch import Tensor

Generators = torch.Generator | list[torch.Generator] | None
"""One stream for the batch, one per row, or torch's default stream."""

#: What the four numbers of a position are for.
DRAFT, COIN, ACCEPT, REDRAW = range(4)

_CHUNK = 256


def uniform(batch: int, most: int, device: torch.device, generators: Generators) -> Tensor:
    """Four numbers on [0, 1) for every position. -> [B, T, 4]

    Raises ValueError unless a list holds a generator for every row.
    """
    if isinstance(generators, list):
        if len(generators) != batch:
            raise ValueError(f"{len(generators)} generators for {batch} rows; give one per row")
        return torch.stack([torch.rand(most, 4, generator=g, device=device) for g in generators])
    return torch.rand(batch, most, 4, generator=generators, device=device)


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """The token at height u of the cumulated weights, which need no sum of 1. [B, V], [B] -> [B]

    In double precision, at two levels: cumulating a whole vocabulary costs ten times as much.
    """
    batch, width = weights.shape
    chunks = torch.nn.functional.pad(weights, (0, -width % _CHUNK)).view(batch, -1, _CHUNK)
    heights = chunks.sum(-1, dtype=torch.float64).cumsum(-1)  # [B, V / chunk]
    target = u.double()[:, None] * heights[:, -1:]
    chunk = _below(heights, target)
    target = target - torch.where(chunk > 0, heights.gather(1, (chunk - 1).clamp(min=0)), 0.0)
    inner = chunks.gather(1, chunk[..., None].expand(-1, 1, _CHUNK)).squeeze(1).double().cumsum(-1)
    return (chunk * _CHUNK + _below(inner, target)).squeeze(1)


def _below(heights: Tensor, target: Tensor) -> Tensor:
    """Where `target` falls, never behind the last weight that is not 0. [B, n], [B, 1] -> [B, 1]"""
    target = torch.minimum(target, heights[:, -1:] * (1 - 2**-50))
    return torch.searchsorted(heights, target, right=True).clamp(max=heights.shape[1] - 1)


class Dice:
    """The draws of the eager loop, step by step.

    generators: as for `generate`; a list gives the rows numbers of their own, made once for all of
    the at most `most` positions.
    """

    def __init__(self, batch: int, most: int, device: torch.device, generators: Generators) -> None:
        self._batch, self._device = batch, device
        self._stream = None if isinstance(generators, list) else generators
        self._noise = (
            uniform(batch, most, device, generators) if isinstance(generators, list) else None
        )

    def toss(self, step: int) -> Tensor:
        """One number on [0, 1) per row. -> [B]"""
        if self._noise is not None:
            return self._noise[:, step, COIN]
        return torch.rand(self._batch, generator=self._stream, device=self._device)

    def draw(self, probs: Tensor, step: int, purpose: int = DRAFT) -> Tensor:
        """One token per row. [B, V] -> [B]"""
        if self._noise is not None:
            return pick(probs, self._noise[:, step, purpose])
        return torch.multinomial(probs, 1, generator=self._stream).squeeze(1)
