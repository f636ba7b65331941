"""Right-or-wrong per item by one teacher-forced pass: the engine of a weight search.

The same verdicts as `bot.engines.lm_eval`, item by item, at a fraction of its time, because the
items are tokenised once and nothing is generated that one pass can decide. Tokens come from the
harness's own encoding, so both engines see the same ids:

* exact: greedy decoding writes the answer iff every answer token is the argmax after the tokens
  before it;
* choice: the choice with the largest sum of log probabilities, the first on a tie;
* generate: greedy decoding follows the answer's tokens up to the first argmax that differs. The
  text up to there decides nearly always; where other tokens could still spell the same text, the
  harness generates.

Not promised: equality where two logits are closer than the rounding that batching changes, or
where a special token inside a free answer spells one of its stops: the harness's own mark then
depends on the other items of the batch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from torch import Tensor
from torch.nn import functional

from bot.engines.lm_eval import bits, harness_task, requests
from bot.suites import Category, Kind

# Padded tokens in a batch. On a processor a batch should stay within its cache: 1200 items of a
# 0.67 M model took 0.43, 0.34, 0.41 and 0.55 s of one thread at 512, 2048, 4096 and 8192.
_TOKENS = {"cpu": 2048, "cuda": 16384}
_NO_TOKEN = -100
_PARTIAL = "�"  # what a decoder shows for a character whose bytes have not all come

Positions = Mapping[str, Sequence[int]]  # category -> items to answer


@dataclass(frozen=True)
class _Row:
    """One pass over the model: predict `path` from `start` on, given everything before."""

    category: int
    item: int
    choice: int
    ids: tuple[int, ...]  # inputs
    start: int  # index of the input whose logits predict path[0]
    path: tuple[int, ...]  # tokens to compare with the predictions at start, start + 1, ...


@dataclass(frozen=True)
class _Seen:
    """What the model said to one row."""

    row: _Row
    predicted: tuple[int, ...]  # argmax at each place of the path
    likelihood: float  # sum of log probabilities of the path; nan where nobody asked


class LightScorer:
    """Scores the model inside `lm` as it is at the time of the call, on fixed categories."""

    def __init__(self, lm: HFLM, categories: Sequence[Category]) -> None:
        self._lm, self._categories = lm, tuple(categories)
        self._asked = [requests(harness_task(category)) for category in self._categories]
        rows = [row for number in range(len(self._categories)) for row in self._rows_of(number)]
        # Rows of like length share a batch, so little is padded; and of like start, so few logits.
        self._rows = sorted(rows, key=lambda row: (len(row.ids), row.start))

    def outcomes(self, positions: Positions | None = None) -> dict[str, str]:
        """Per category "0" and "1" in item order; "-" for items outside `positions`, which are
        all items where it is None. Raises KeyError or IndexError for what is not there."""
        wanted = self._wanted(positions)
        rows = [row for row in self._rows if (row.category, row.item) in wanted]
        answers: dict[tuple[int, int], list[_Seen]] = {}
        for batch in _batches(rows, _TOKENS[self._lm.device.type]):
            for seen in self._one_pass(batch):
                answers.setdefault((seen.row.category, seen.row.item), []).append(seen)
        marks = [["-"] * len(category.items) for category in self._categories]
        for (number, item), seen_rows in answers.items():
            marks[number][item] = bits([self._right(number, item, seen_rows)])
        return {c.name: "".join(m) for c, m in zip(self._categories, marks, strict=True)}

    def _wanted(self, positions: Positions | None) -> set[tuple[int, int]]:
        numbers = {category.name: n for n, category in enumerate(self._categories)}
        if positions is None:
            positions = {c.name: range(len(c.items)) for c in self._categories}
        chosen = {(numbers[name], item) for name, items in positions.items() for item in items}
        for number, item in chosen:
            if not 0 <= item < len(self._categories[number].items):
                raise IndexError(f"{self._categories[number].name} has no item {item}")
        return chosen

    def _rows_of(self, number: int) -> list[_Row]:
        category = self._categories[number]
        if category.kind is Kind.GENERATE:
            return [
                self._free_row(number, item, category.max_tokens, one.prompt, one.answer)
                for item, one in enumerate(category.items)
            ]
        return [
            self._given_row(number, instance.doc_id, instance.idx, *instance.args)
            for instance in self._asked[number]
        ]

    def _given_row(self, number: int, item: int, choice: int, prompt: str, answer: str) -> _Row:
        context, continuation = self._lm._encode_pair(prompt, answer)
        # Cut as the harness cuts: too long a context loses its left end, and the last token goes,
        # since nothing is asked after it.
        ids = (context + continuation)[-(self._lm.max_length + 1) :][:-1]
        start = len(ids) - len(continuation)
        return _Row(number, item, choice, tuple(ids), start, tuple(continuation))

    def _free_row(self, number: int, item: int, budget: int, prompt: str, answer: str) -> _Row:
        context, spelled = self._lm._encode_pair(prompt, answer)
        context = context[-(self._lm.max_length - budget) :]
        # One place more than the answer has, where the model ought to stop.
        path = (*spelled, _NO_TOKEN)[:budget]
        ids = (*context, *path[:-1])
        return _Row(number, item, 0, ids, len(context) - 1, path)

    @torch.inference_mode()
    def _one_pass(self, rows: Sequence[_Row]) -> list[_Seen]:
        length = max(len(row.ids) for row in rows)
        first = min(row.start for row in rows)
        padded = [(*row.ids, *(0,) * (length - len(row.ids))) for row in rows]
        ids = torch.tensor(padded, device=self._lm.device)  # [B, T]; causal, so no mask is needed
        answer = self._lm.model(input_ids=ids, use_cache=False, logits_to_keep=length - first)
        logits = answer.logits[:, first - length :]  # [B, T - first, V]
        predicted = logits.argmax(-1).tolist()
        return [
            _Seen(
                row,
                tuple(line[row.start - first :][: len(row.path)]),
                self._likelihood(row, scores[row.start - first :]),
            )
            for row, line, scores in zip(rows, predicted, logits, strict=True)
        ]

    def _likelihood(self, row: _Row, logits: Tensor) -> float:
        """Of the row's path under logits [>= len(path), V]."""
        if self._categories[row.category].kind is not Kind.CHOICE:
            return math.nan
        path = torch.tensor(row.path, device=logits.device).unsqueeze(-1)  # [P, 1]
        log_p = functional.log_softmax(logits[: len(row.path)], dim=-1)  # [P, V]
        return float(log_p.gather(1, path).sum())

    def _right(self, number: int, item: int, seen: Sequence[_Seen]) -> bool:
        category = self._categories[number]
        if category.kind is Kind.CHOICE:
            best = max(sorted(seen, key=lambda s: s.row.choice), key=lambda s: s.likelihood)
            return best.row.choice == category.items[item].gold
        [only] = seen
        if category.kind is Kind.EXACT:
            return only.predicted == only.row.path
        verdict = self._written(category, category.items[item].answer, only)
        return self._generated(number, item) if verdict is None else verdict

    def _written(self, category: Category, answer: str, seen: _Seen) -> bool | None:
        """Whether greedy text is `answer`; None where one pass cannot tell."""
        pairs = zip(seen.predicted, seen.row.path, strict=True)
        same = next((n for n, (said, path) in enumerate(pairs) if said != path), None)
        tokens = seen.predicted if same is None else seen.predicted[: same + 1]
        text = self._lm.tok_decode(list(tokens))
        cut = postprocess_generated_text(text, list(category.until), None)
        if cut != text or tokens[-1] in self._ends() or len(tokens) == category.max_tokens:
            return bool(cut == answer)
        if answer.startswith(text) or text.endswith(_PARTIAL):
            return None
        rest = text.removeprefix(answer)
        begins_a_stop = any(stop.startswith(rest) for stop in category.until)
        return None if text.startswith(answer) and begins_a_stop else False

    def _ends(self) -> set[int]:
        configured = self._lm.model.generation_config.eos_token_id
        return {self._lm.eot_token_id, *(_as_list(configured))}

    def _generated(self, number: int, item: int) -> bool:
        [text] = self._lm.generate_until([self._asked[number][item]], disable_tqdm=True)
        return bool(text == self._categories[number].items[item].answer)


def _batches(rows: Sequence[_Row], tokens: int) -> Iterator[Sequence[_Row]]:
    """Neighbours of rising length, as many as fit into `tokens` with padding, at least one."""
    first = 0
    for last in range(1, len(rows) + 1):
        if last == len(rows) or len(rows[last].ids) * (last + 1 - first) > tokens:
            yield rows[first:last]
            first = last


def _as_list(tokens: int | list[int] | None) -> list[int]:
    return tokens if isinstance(tokens, list) else [] if tokens is None else [tokens]
