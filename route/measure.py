"""How different several texts for one prompt are, and how likely the aligned model finds them.

Every measure takes the texts of *one* prompt; callers average over prompts. Lexical measures fall
with length, so texts are cut to the same number of words first and lengths are reported beside.
Not promised: that likelihood under the aligned model is quality. It favours what that model would
have said, short and safe texts included; a scorer that reads the text is better where there is one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor

_BLEU = BLEU(effective_order=True, tokenize="none")


def cut(texts: Sequence[str], words: int) -> list[list[str]]:
    """The first `words` words of each text, split at white space."""
    return [text.split()[:words] for text in texts]


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct n-grams over all n-grams (Li et al., arXiv 1510.03055); 0 where there are none."""
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def expectation_adjusted_distinct(texts: Sequence[Sequence[str]], vocabulary: int) -> float:
    """Distinct words N over their expected number for C uniform draws from V words.

    EAD = N / (V (1 - ((V - 1) / V)^C)) (Liu et al., arXiv 2202.13587); corrects for length.
    """
    words = [word for text in texts for word in text]
    expected = vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** len(words))
    return len(set(words)) / expected if words else 0.0


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Mean sentence BLEU-4 of each text against the others (Zhu et al., arXiv 1802.01886), 0 to 1.

    By sacrebleu with exponential smoothing; two empty texts are equal, one alone matches nothing.
    """
    if len(texts) < 2:
        raise ValueError(f"self-BLEU compares texts, got {len(texts)}")
    joined = [" ".join(text) for text in texts]
    scores = []
    for index, text in enumerate(joined):
        others = joined[:index] + joined[index + 1 :]
        if text in others:
            scores.append(1.0)
        else:
            scores.append(_BLEU.sentence_score(text, [o for o in others if o] or [""]).score / 100)
    return sum(scores) / len(scores)


@torch.no_grad()
def mean_log_probability(
    model: Any, ids: Tensor, mask: Tensor, emitted: Tensor, rows: int = 32
) -> Tensor:
    """Mean log-probability in nats per emitted token under `model` at temperature 1. -> [B]

    `ids`, `mask`: [B, L + T], prompts left-padded; `emitted`: [B, T], the tokens that count.
    """
    new = emitted.shape[1]
    means = []
    for start in range(0, len(ids), rows):
        some, seen, counts = (t[start : start + rows] for t in (ids, mask, emitted))
        positions = (seen.long().cumsum(-1) - 1).clamp(min=0)
        logits = model(some, attention_mask=seen, position_ids=positions).logits[:, -new - 1 : -1]
        log_p = logits.float().log_softmax(-1).gather(-1, some[:, -new:, None]).squeeze(-1)
        means.append((log_p * counts).sum(1) / counts.sum(1))
    return torch.cat(means)
