"""A Gaussian process over weight vectors: what the trials so far say about all other soups.

The members' scores at the corners are known, so the process describes the departure of a soup from
the mixture of its members' scores, category by category:

    score_c(w) = sum_j w_j s_cj + r_c(w),      r_c = 0 at the corners
    cov(r(w), r(v)) = amplitude^2 (  sum_{i<j} w_i w_j v_i v_j  +  b(w) b(v) exp(-|w-v|^2/(2 l^2)) )
    b(w) = 1 - |w|^2

The first term is the quadratic Scheffe model with independent coefficients, which generalises from
few trials; the second lets the data bend it. Both vanish at the corners. Length and amplitude
maximise the likelihood of the objective's departure over a small fixed set, so a fit is a
deterministic function of its data.

Not promised: calibrated uncertainty. It serves to choose what to try, never to report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LENGTHS = (0.25, 0.5, 1.0)
AMPLITUDES = (0.03, 0.1, 0.3, 1.0)
"""In shares of 1, for r at products w_i w_j near 1."""
NUGGET = 0.003
"""Item outcomes jump, so even the exact score over a finite set of items is rough: the standard
deviation of that roughness, in shares of 1."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A fitted process: mean(points) [n, C] departures, spread(points) [n] of the objective's."""

    points: Floats  # [m, members]
    length: float
    amplitude: float
    _alpha: Floats  # [m, C]
    _factor: Floats  # [m, m] Cholesky factor of the covariance of what was observed

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """points [n, members] -> departures [n, C] and the objective's standard deviation [n]."""
        cross = self.amplitude**2 * kernel(points, self.points, self.length)  # [n, m]
        explained = np.linalg.solve(self._factor, cross.T)  # [m, n]
        own = self.amplitude**2 * kernel_diagonal(points)
        variance = np.maximum(own - np.einsum("mn,mn->n", explained, explained), 0.0)
        return cross @ self._alpha, np.sqrt(variance)


def kernel(a: Floats, b: Floats, length: float) -> Floats:
    """[n, members] x [m, members] -> [n, m], amplitude 1."""
    inner = a @ b.T
    scheffe = (inner**2 - (a**2) @ (b**2).T) / 2  # sum over i < j of w_i w_j v_i v_j
    norm_a, norm_b = (a**2).sum(axis=1), (b**2).sum(axis=1)
    distance = np.maximum(norm_a[:, None] + norm_b[None, :] - 2 * inner, 0.0)
    bend = np.outer(1 - norm_a, 1 - norm_b) * np.exp(-distance / (2 * length**2))
    return np.asarray(scheffe + bend)


def kernel_diagonal(a: Floats) -> Floats:
    norm = (a**2).sum(axis=1)
    return np.asarray((norm**2 - (a**4).sum(axis=1)) / 2 + (1 - norm) ** 2)


def fit(points: Floats, departures: Floats, goal: Floats, variance: Floats) -> Surface:
    """points [m, members]; departures [m, C] per category; goal [m]: the objective's departure;
    variance [m]: of the observed goal, 0 where it is exact."""
    noise = np.diag(variance + NUGGET**2)
    choices = [(length, amplitude) for length in LENGTHS for amplitude in AMPLITUDES]
    shapes = {length: kernel(points, points, length) for length in LENGTHS}
    covariances = np.stack([a**2 * shapes[length] + noise for length, a in choices])
    factors = np.linalg.cholesky(covariances)  # [choices, m, m]
    white = np.linalg.solve(factors, np.broadcast_to(goal[:, None], (len(choices), len(goal), 1)))
    logs = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    best = int((-0.5 * (white**2).sum(axis=(1, 2)) - logs).argmax())
    factor = factors[best]
    alpha = np.linalg.solve(factor.T, np.linalg.solve(factor, departures))
    return Surface(points, *choices[best], alpha, factor)
