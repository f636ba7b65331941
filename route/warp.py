"""Logits processors and stopping criteria for texts of unequal length.

A block settles positions of rows that are not equally long, and several positions at once. What
looks at one position only is applied to all of them together. What reads the text (repetition
penalty, n-grams, stop strings ...) is shown each row's own text, rows of equal length together, so
every row gets what it would get alone. What keeps a state of its own, or tells rows of a batch
apart, has no such equivalent and is refused by name.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MaxLengthCriteria,
    MaxTimeCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StopStringCriteria,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
from transformers.generation import ExponentialDecayLengthPenalty

#: These look at one position only.
LOCAL = (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
#: These read a row's text and nothing else.
READING = (
    ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
)
#: Length and end tokens the loop sees itself; time is looked at once a block.
_OWN = (MaxLengthCriteria, EosTokenCriteria)


def unsupported(processors: Sequence[Any], criteria: Sequence[Any]) -> list[str]:
    """The names of those that only the eager loop can serve. A subclass may do anything."""
    served = {*LOCAL, *READING, *_OWN, StopStringCriteria, MaxTimeCriteria}
    return [type(one).__name__ for one in (*processors, *criteria) if type(one) not in served]


class Warp:
    """Raw logits to the probabilities that are sampled from; in greedy decoding to one 1."""

    def __init__(self, processors: Any, do_sample: bool) -> None:
        self._processors, self._do_sample = processors, do_sample
        self.reads = not all(type(one) in LOCAL for one in processors)

    def __call__(self, logits: Tensor, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """[B, V] -> [B, V]. ids: [B, ...], of which the first `lengths` [B] of a row are its text;
        lengths may be empty where nothing `reads`."""
        if self.reads:
            scores = torch.empty_like(logits)
            for length, rows in equal_lengths(lengths, logits.device):
                some = logits[rows]
                for one in self._processors:
                    some = _for_rows(one, rows)(ids[rows, :length], some)
                scores[rows] = some
        else:
            scores = self._processors(ids, logits)
        if self._do_sample:
            return scores.softmax(-1)
        return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[1]).float()


def _for_rows(processor: Any, rows: Tensor) -> Any:
    """The processor as some rows of its batch see it: one has a number for each row."""
    if isinstance(processor, RepetitionPenaltyLogitsProcessor):
        padding = processor.prompt_ignore_length
        if isinstance(padding, Tensor):
            own = padding.to(rows.device)[rows]
            return RepetitionPenaltyLogitsProcessor(processor.penalty, own)
    return processor


class Stops:
    """The stopping criteria that the loop does not see itself: stop strings and time."""

    def __init__(self, criteria: Sequence[Any]) -> None:
        self._criteria = [one for one in criteria if not isinstance(one, _OWN)]

    def __bool__(self) -> bool:
        return bool(self._criteria)

    def first(self, ids: Tensor, before: Sequence[int], count: Sequence[int]) -> list[int | None]:
        """After how many of the `count` [B] new tokens a row stops, or None. ids: [B, ...], of
        which a row's text are the first `before` [B] and then the new ones."""
        found: list[int | None] = [None] * len(before)
        for new in range(1, max(count) + 1):
            rows = [r for r, n in enumerate(count) if n >= new and found[r] is None]
            lengths = [before[row] + new for row in rows]
            for length, some in equal_lengths(lengths, torch.device("cpu")):
                where = [rows[i] for i in some.tolist()]
                for row, stop in zip(where, self._stop(ids[where, :length]), strict=True):
                    found[row] = new if stop else None
        return found

    def _stop(self, ids: Tensor) -> list[bool]:
        stop = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for criterion in self._criteria:
            stop = stop | criterion(ids, None)
        flags: list[bool] = stop.tolist()
        return flags


def equal_lengths(lengths: Sequence[int], device: torch.device) -> list[tuple[int, Tensor]]:
    """Each length with the rows [n] long that have it."""
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return [(length, torch.tensor(rows, device=device)) for length, rows in groups.items()]
