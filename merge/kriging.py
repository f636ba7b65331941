"""A Gaussian process over weight vectors: what the scores so far say about all other soups.

The members' scores s_cj at the corners are known. Category by category, for weights w:

    score_c(w)  = mu_c(w) + slope_c(w) z_c(w) + h_c(w),     z = h = 0 at the corners
    mu_c(w)     = logistic( sum_j w_j logit s_cj ),         slope_c = mu_c (1 - mu_c)
    cov z_c     = A^2 (  sum_{i<j} w_i w_j v_i v_j  +  b(w) b(v) exp(-|w-v|^2 / (2 L^2))  )
    cov h_c     = sqrt(slope_c(w) slope_c(v)) exp(-|w-v| / REACH) / n_c,       b(w) = 1 - |w|^2

The prior mean mixes log-odds, not scores: a skill far above its threshold survives dilution, so the
best soups lie above the plane through the members. z is what mixing itself does, in log-odds: the
quadratic Scheffe model with independent coefficients, which generalises from few trials, and a term
that lets the data bend it. h is the luck of these n_c items: each is solved or not, so the score on
a finite set is rough. Length L and amplitude A maximise the likelihood over a small fixed set, so a
fit is a deterministic function of its data.

Not promised: calibrated uncertainty. It serves to choose what to try, never to report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from merge.outcomes import Outcomes

Floats = NDArray[np.float64]

LENGTHS = (0.3, 0.8)
AMPLITUDES = (0.5, 1.0, 2.0, 4.0)
"""In log-odds, for z at products w_i w_j near 1."""
REACH = 0.8
"""Distance at which two soups' outcomes on one item have little to do with each other. Measured on
the tiny family: 5 % of the items differ at distance 0.14, 9 % at 0.28, 13 % at 0.5, 21 % at 1."""
LEAST_SLOPE = 0.01
JITTER = 1e-9


@dataclass(frozen=True, eq=False)
class Prior:
    """logits [C, members] of the members' scores; items [C] in each category."""

    logits: Floats
    items: Floats

    @classmethod
    def of(cls, members: Sequence[Outcomes]) -> Prior:
        """Half an item is added to the right and to the wrong ones: log-odds stay finite."""
        items = np.array(list(members[0].sizes.values()), np.float64)
        right = np.stack([outcomes.scores() for outcomes in members], axis=1) * items[:, None]
        return cls(np.log((right + 0.5) / (items[:, None] - right + 0.5)), items)

    def at(self, points: Floats) -> tuple[Floats, Floats]:
        """points [n, members] -> mu [C, n] and slope [C, n]."""
        mu = 1 / (1 + np.exp(-self.logits @ points.T))
        return mu, np.maximum(mu * (1 - mu), LEAST_SLOPE)


@dataclass(frozen=True, eq=False)
class Surface:
    """A process fitted to scores at points [m, members]."""

    prior: Prior
    points: Floats
    length: float
    amplitude: float
    _alpha: Floats  # [C, m]
    _covariance: Floats  # [C, m, m] of what was observed

    def scores(self, points: Floats) -> Floats:
        """points [n, members] -> expected scores [n, C] on the items of the split."""
        return self._scores(points, *self._kernels(points))

    def predict(self, points: Floats, shares: Floats) -> tuple[Floats, Floats]:
        """Expected scores [n, C], and the standard deviation [n] of their mean with weights
        shares [C], as far as the same mean of the observations tells."""
        smooth, rough = self._kernels(points)
        squares, parts = shares**2, shares**2 / self.prior.items
        slope = self.prior.at(points)[1]
        cross = smooth * ((squares[:, None] * slope).T @ self._slope)
        cross += rough * ((parts[:, None] * np.sqrt(slope)).T @ np.sqrt(self._slope))  # [n, m]
        factor = np.linalg.cholesky(np.tensordot(squares, self._covariance, 1))
        explained = np.linalg.inv(factor) @ cross.T  # [m, n]
        own = self.amplitude**2 * kernel_diagonal(points) * (squares @ slope**2) + parts @ slope
        rest = own - np.einsum("mn,mn->n", explained, explained)
        return self._scores(points, smooth, rough), np.sqrt(np.maximum(rest, 0.0))

    def _scores(self, points: Floats, smooth: Floats, rough: Floats) -> Floats:
        mu, slope = self.prior.at(points)
        bent = slope.T * (smooth @ (self._slope * self._alpha).T)
        lucky = np.sqrt(slope).T * (rough @ (np.sqrt(self._slope) * self._alpha).T)
        return np.asarray(mu.T + bent + lucky / self.prior.items)

    def _kernels(self, points: Floats) -> tuple[Floats, Floats]:
        """[n, m] each: covariance of z, and correlation of h, with the points observed."""
        smooth = self.amplitude**2 * kernel(points, self.points, self.length)
        return smooth, echo(points, self.points)

    @cached_property
    def _slope(self) -> Floats:
        return self.prior.at(self.points)[1]  # [C, m]


def kernel(a: Floats, b: Floats, length: float) -> Floats:
    """Of z: [n, members] x [m, members] -> [n, m], amplitude 1."""
    inner = a @ b.T
    scheffe = (inner**2 - (a**2) @ (b**2).T) / 2  # sum over i < j of w_i w_j v_i v_j
    bend = np.outer(1 - (a**2).sum(axis=1), 1 - (b**2).sum(axis=1))
    return np.asarray(scheffe + bend * np.exp(-_squares(a, b) / (2 * length**2)))


def kernel_diagonal(a: Floats) -> Floats:
    norm = (a**2).sum(axis=1)
    return np.asarray((norm**2 - (a**4).sum(axis=1)) / 2 + (1 - norm) ** 2)


def echo(a: Floats, b: Floats) -> Floats:
    """Correlation of the outcomes of one item at two vectors, beside what its category does."""
    return np.asarray(np.exp(-np.sqrt(_squares(a, b)) / REACH))


def _squares(a: Floats, b: Floats) -> Floats:
    """[n, m] squared distances."""
    norms = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    return np.asarray(np.maximum(norms - 2 * a @ b.T, 0.0))


def fit(
    prior: Prior,
    points: Floats,
    scores: Floats,
    variances: Floats,
    shape: tuple[float, float] | None = None,
) -> Surface:
    """points [m, members], the corners among them; scores [m, C] observed there, and the variances
    [m, C] of these observations, 0 where every item was evaluated. shape: length and amplitude, by
    default the most likely."""
    mu, slope = prior.at(points)
    departures = (scores.T - mu)[..., None]  # [C, m, 1]
    both = slope[:, :, None] * slope[:, None, :]
    noise = (variances.T[:, :, None] + JITTER) * np.eye(len(points))
    noise += np.sqrt(both) * echo(points, points) / prior.items[:, None, None]
    choices = [shape] if shape else [(length, a) for length in LENGTHS for a in AMPLITUDES]
    kernels = np.stack([a**2 * kernel(points, points, length) for length, a in choices])
    covariances = kernels[:, None] * both + noise  # [choices, C, m, m]
    factors = np.linalg.cholesky(covariances)
    white = np.linalg.solve(factors, np.broadcast_to(departures, (len(choices), *departures.shape)))
    logs = np.log(np.diagonal(factors, axis1=2, axis2=3)).sum(axis=(1, 2))
    best = int((-0.5 * (white**2).sum(axis=(1, 2, 3)) - logs).argmax())
    alpha = np.linalg.solve(np.swapaxes(factors[best], 1, 2), white[best])[..., 0]
    return Surface(prior, points, *choices[best], alpha, covariances[best])
