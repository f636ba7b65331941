"""Right-or-wrong per item for many weight vectors: the harness's answers without its paperwork.

`bot.engines.lm_eval` builds, hashes and logs every question anew for each evaluation. A weight
search asks the same questions hundreds of times, so here they are built and tokenised once, and
only the harness's own scoring runs: teacher-forced log probabilities for exact and choice items,
greedy text for free answers. Order and batches are the harness's too. They matter: in bfloat16 two
logits are often equal up to rounding, and another batch rounds otherwise (with batches of our own,
one item in 3,600 of the tiny family came out differently).

Measured on 1,200 exact items, a model of 0.67 M parameters in bfloat16 and one thread: 0.50 s,
against 0.75 s for the harness's evaluation.

Not promised: equality for part of a category's items, whose batches are others.
"""

from collections.abc import Mapping, Sequence

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from bot.engines.lm_eval import bits, harness_task, requests
from bot.suites import Category, Kind

Positions = Mapping[str, Sequence[int]]  # category -> items to answer
Encoded = tuple[tuple[str, str], list[int], list[int]]  # texts; tokens of prompt and of answer


class LightScorer:
    """Scores the model inside `lm` as it is at the time of the call, on fixed categories."""

    def __init__(self, lm: HFLM, categories: Sequence[Category]) -> None:
        self._asked = {c.name: _questions(lm, c) for c in categories}

    def outcomes(self, positions: Positions | None = None) -> dict[str, str]:
        """Per category "0" and "1" in item order; "-" for items outside `positions`, which are
        all items where it is None. Raises KeyError or IndexError for what is not there."""
        if positions is not None and (unknown := positions.keys() - self._asked.keys()):
            raise KeyError(f"no category {min(unknown)!r}")
        return {
            name: asked.outcomes(None if positions is None else positions.get(name, ()))
            for name, asked in self._asked.items()
        }


class _Given:
    """Items whose possible answers are given: one request per item and answer."""

    def __init__(self, lm: HFLM, category: Category, asked: Sequence[Instance]) -> None:
        self._lm, self._items = lm, category.items
        self._encoded: list[list[Encoded]] = [[] for _ in category.items]
        for instance in asked:
            prompt, answer = instance.args
            tokens = lm._encode_pair(prompt, answer)
            self._encoded[instance.doc_id].append(((prompt, answer), *tokens))

    def outcomes(self, positions: Sequence[int] | None) -> str:
        wanted = range(len(self._items)) if positions is None else positions
        flat = [request for item in wanted for request in self._encoded[item]]
        answers = iter(self._lm._loglikelihood_tokens(flat, disable_tqdm=True) if flat else ())
        marks = ["-"] * len(self._items)
        for item in wanted:
            marks[item] = bits([self._right(item, [next(answers) for _ in self._encoded[item]])])
        return "".join(marks)

    def _right(self, item: int, answers: Sequence[tuple[float, bool]]) -> bool:
        """answers: (log probability, whether greedy) of each possible answer, in their order."""
        gold = self._items[item].gold
        if gold is None:
            [(_, greedy)] = answers
            return greedy
        likelihoods = [likelihood for likelihood, _ in answers]
        return likelihoods.index(max(likelihoods)) == gold


class _Free:
    """Items that are answered by greedy decoding."""

    def __init__(self, lm: HFLM, category: Category, asked: Sequence[Instance]) -> None:
        self._lm, self._items, self._asked = lm, category.items, asked

    def outcomes(self, positions: Sequence[int] | None) -> str:
        wanted = range(len(self._items)) if positions is None else positions
        asked = [self._asked[item] for item in wanted]
        texts = self._lm.generate_until(asked, disable_tqdm=True) if asked else []
        marks = ["-"] * len(self._items)
        for item, text in zip(wanted, texts, strict=True):
            marks[item] = bits([text == self._items[item].answer])
        return "".join(marks)


def _questions(lm: HFLM, category: Category) -> _Given | _Free:
    asked = requests(harness_task(category))
    kind = _Free if category.kind is Kind.GENERATE else _Given
    return kind(lm, category, asked)
