"""What few complete soups tell about all others: scores by the surface, items by forecasts."""

from fractions import Fraction

import numpy as np
import pytest

from merge.forecasts import Forecasts
from merge.kriging import Prior, fit
from merge.outcomes import Outcomes
from merge.simplex import corner, parse_weights, uniform

NEAR = [["1/2", "3/10", "1/5"], ["2/5", "2/5", "1/5"], ["3/5", "1/5", "1/5"]]
HERE = ["1/2", "1/4", "1/4"]
SHARES = np.full(6, 1 / 6)


def floats(weights) -> np.ndarray:
    return np.array([[float(v) for v in w] for w in weights])


def known(truth, vectors) -> tuple[np.ndarray, list[Outcomes]]:
    points = [*(corner(3, i) for i in range(3)), uniform(3), *map(parse_weights, vectors)]
    return floats(points), [truth(w) for w in points]


def forecasts(truth, vectors=NEAR) -> Forecasts:
    points, outcomes = known(truth, vectors)
    order = np.arange(sum(outcomes[0].sizes.values()))
    return Forecasts(Prior.of(outcomes[:3]), points, outcomes, order)


def test_the_surface_passes_through_what_was_evaluated_completely(family) -> None:
    surface, (points, outcomes) = forecasts(truth := family(3, seed=0)).surface, known(truth, NEAR)
    scores = np.stack([o.scores() for o in outcomes])
    np.testing.assert_allclose(surface.scores(points), scores, atol=1e-4)
    np.testing.assert_allclose(surface.predict(points, SHARES)[1], 0, atol=1e-4)
    assert surface.predict(floats([parse_weights(HERE)]), SHARES)[1][0] > 1e-3


def test_an_uncertain_score_binds_the_surface_less(family) -> None:
    points, outcomes = known(family(3, seed=0), NEAR)
    prior, scores = Prior.of(outcomes[:3]), np.stack([o.scores() for o in outcomes])
    wrong = scores.copy()
    wrong[-1] -= 0.2
    off = []
    for variance in (0.0, 1.0):
        variances = np.zeros_like(scores)
        variances[-1] = variance
        surface = fit(prior, points, wrong, variances)
        off.append(abs(surface.scores(points[-1:])[0] - scores[-1]).mean())
    assert off[0] == pytest.approx(0.2, abs=1e-4)
    assert off[1] < 0.05


def test_log_odds_of_the_members_are_the_first_guess(family) -> None:
    """A member that fails everything takes little from one that never fails; scores at the corners
    are the members' own, up to the half item that keeps log-odds finite."""
    truth = family(3, seed=1, items=400)
    members = truth.members
    prior = Prior.of(members)
    mu, slope = prior.at(np.eye(3))
    np.testing.assert_allclose(mu.T, [m.scores() for m in members], atol=0.002)
    assert (slope > 0).all()
    mixed, _ = prior.at(np.array([[0.7, 0.3, 0.0]]))
    odds = np.log(mu / (1 - mu))
    np.testing.assert_allclose(
        np.log(mixed / (1 - mixed))[:, 0], 0.7 * odds[:, 0] + 0.3 * odds[:, 1]
    )


def test_the_most_doubtful_items_tell_a_score_better_than_any_others(family) -> None:
    """Against the same number of items drawn at random: its mean, and the estimate from it."""
    errors: dict[str, list[float]] = {"doubtful": [], "random": [], "plain": []}
    for seed in range(20):
        truth = family(3, seed=seed, items=100)
        told, weights = forecasts(truth), parse_weights(HERE)
        point, answer = floats([weights])[0], truth(weights)
        wanted = told.doubtful(point, None, 120, SHARES)
        assert sum(map(len, wanted.values())) == 120
        rng = np.random.default_rng(seed)
        drawn = answer.only({c: rng.choice(100, 20, replace=False) for c in answer.categories})
        estimates = {
            "doubtful": told.estimate(point, answer.only(wanted))[0].mean(),
            "random": told.estimate(point, drawn)[0].mean(),
            "plain": drawn.macro(),
        }
        for name, estimate in estimates.items():
            errors[name].append((estimate - answer.macro()) ** 2)
    rough = {name: np.sqrt(np.mean(squares)) for name, squares in errors.items()}
    assert rough["doubtful"] < 0.8 * rough["random"] < 0.5 * rough["plain"]


def test_an_estimate_is_exact_when_nothing_is_left(family) -> None:
    truth = family(3, seed=2)
    told, answer = forecasts(truth), truth(parse_weights(HERE))
    scores, variances = told.estimate(floats([parse_weights(HERE)])[0], answer)
    np.testing.assert_allclose(scores, answer.scores())
    np.testing.assert_allclose(variances, 0, atol=1e-15)


def test_items_are_asked_once_and_where_the_objective_looks(family) -> None:
    truth = family(3, seed=3)
    told, weights = forecasts(truth), parse_weights(HERE)
    point, answer = floats([weights])[0], truth(weights)
    first = told.doubtful(point, None, 60, SHARES)
    seen = answer.only(first)
    more = told.doubtful(point, seen, 100, SHARES)
    assert sum(map(len, more.values())) == 40
    assert not any(set(first[c]) & set(more[c]) for c in first)
    assert not any(len(p) for p in told.doubtful(point, seen, 60, SHARES).values())
    one = np.where(np.arange(6) == 2, 1.0, 1e-6)
    assert len(told.doubtful(point, None, 40, one)["c2"]) == 40


def test_outcomes_of_nearer_soups_count_for_more(family) -> None:
    """On most items a soup agrees with its neighbour; far from all it is anybody's guess."""
    truth = family(3, seed=4, items=200)
    told = forecasts(truth)
    tenth = Fraction(1, 20)
    beside = tuple(a + b for a, b in zip(parse_weights(NEAR[0]), (tenth, -tenth, 0), strict=True))
    far = parse_weights(["1/20", "1/20", "9/10"])
    doubts = []
    for weights in (beside, far):
        chance = told.chances(floats([weights])[0])
        bits = np.concatenate(list(truth(weights).values.values()))
        doubts.append((chance * (1 - chance)).mean())
        assert ((chance > 0.5) == bits).mean() > 0.85
        assert abs((chance - bits).mean()) < 0.05
    assert doubts[0] < doubts[1]
