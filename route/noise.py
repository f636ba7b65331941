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
_GOLDEN, *_MIX = (
    n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def uniform(batch: int, most: int, device: torch.device, generators: Generators) -> Tensor:
    """Four numbers on [0, 1) for every position, in double precision. -> [B, T, 4]

    Raises ValueError unless a list holds a generator for every row.
    """
    shape, kind = (most, 4), torch.float64
    if isinstance(generators, list):
        if len(generators) != batch:
            raise ValueError(f"{len(generators)} generators for {batch} rows; give one per row")
        rows = [torch.rand(shape, generator=g, device=device, dtype=kind) for g in generators]
        return torch.stack(rows)
    return torch.rand(batch, *shape, generator=generators, device=device, dtype=kind)


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """A token with probability proportional to its weight. [B, V], [B] -> [B]

    A race: token i arrives after e_i / w_i, e_i exponential, and the first one wins. It is run
    twice, among chunks of tokens and within one, because so many exponentials for every token of a
    vocabulary would take long. They follow from `u` (on [0, 1), 53 bits) and the token alone, so
    two distributions that are near each other mostly give the same token for the same u: of two
    that are 0.10 apart in total variation, 0.8 to 0.9 of the picks agree, where inverting the
    cumulated weights, which shifts all that follows, gives 0.64.
    """
    batch, width = weights.shape
    size = min(_CHUNK, width)
    chunks = torch.nn.functional.pad(weights, (0, -width % size)).view(batch, -1, size)
    sums = chunks.sum(-1, dtype=torch.float64)  # [B, V / chunk]
    chunk = _race(sums, u, -sums.shape[1])[:, None]
    inner = chunks.gather(1, chunk[..., None].expand(-1, 1, size)).squeeze(1)
    return (chunk * size).squeeze(1) + _race(inner, u, chunk * size)


def _race(weights: Tensor, u: Tensor, first: Tensor | int) -> Tensor:
    """The winner of n runners, whose numbers begin at `first` [B, 1]; none of weight 0.
    [B, n], [B] -> [B]"""
    seed = (u.double() * 2**53).long()[:, None]
    runners = torch.arange(weights.shape[1], device=weights.device) + first
    return (weights.double() / _exponential(seed, runners)).argmax(-1)


def _exponential(seed: Tensor, number: Tensor) -> Tensor:
    """Exponential variates by the hash of SplitMix64 (Steele, Lea and Flood 2014), element by
    element: the same for a seed and a number, independent between any two of them."""
    bits = (seed << 10) + (number + 1) * _GOLDEN  # wraps around, as it should
    bits = (bits ^ _shift(bits, 30)) * _MIX[0]
    bits = (bits ^ _shift(bits, 27)) * _MIX[1]
    bits = bits ^ _shift(bits, 31)
    return -torch.log((_shift(bits, 12).double() + 0.5) * 2.0**-52)  # never 0


def _shift(bits: Tensor, by: int) -> Tensor:
    """To the right, filling with zeros, which torch's own shift of negative integers does not."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


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
