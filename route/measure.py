"""How different several texts for one prompt are in their words, and how likely a model finds them.

Every measure takes the texts of *one* prompt; callers average over prompts. All of them move with
length, so texts are cut to the same number of words first and lengths are reported beside.
Self-BLEU is sacrebleu's; the others are a few lines each, checked against cases worked by hand
(ROUGE-L also against `rouge_score`, which has had no release since 2022).

Not promised: that likelihood under the aligned model is quality. It favours what that model would
have said, short and safe texts included; a scorer that reads the text is better where there is one.
Not here: measures that need a trained judge (entailment, NoveltyBench's classes, reward models).
"""

import zlib
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor

Words = Sequence[Sequence[str]]
"""N texts for one prompt, each as its words."""

_BLEU = BLEU(effective_order=True, tokenize="none")
_LOGITS = 2**27  # numbers in one batch of logits, at most: half a gigabyte


def cut(texts: Sequence[str], words: int) -> list[list[str]]:
    """The first `words` words of each text, split at white space."""
    return [text.split()[:words] for text in texts]


def distinct(texts: Words, n: int) -> float:
    """Distinct n-grams over all n-grams (Li et al., arXiv 1510.03055); 0 where there are none."""
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def expectation_adjusted_distinct(texts: Words, vocabulary: int) -> float:
    """Distinct words N over their expected number for C uniform draws from V words.

    EAD = N / (V (1 - ((V - 1) / V)^C)) (Liu et al., arXiv 2202.13587); corrects for length.
    """
    words = [word for text in texts for word in text]
    expected = vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** len(words))
    return len(set(words)) / expected if words else 0.0


def self_bleu(texts: Words) -> float:
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


def rouge_l(texts: Words) -> float:
    """Mean ROUGE-L over pairs of texts (Lin, 2004, "ROUGE"), 0 to 1; two empty texts are equal.

    F1 = 2 LCS(a, b) / (|a| + |b|), which is symmetric in the two.
    """
    if len(texts) < 2:
        raise ValueError(f"ROUGE-L compares texts, got {len(texts)}")
    scores = [
        2 * _common(a, b) / (len(a) + len(b)) if a or b else 1.0 for a, b in combinations(texts, 2)
    ]
    return sum(scores) / len(scores)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def compressed(texts: Words) -> float:
    """Bytes of the texts together after DEFLATE over bytes before, one text a line.

    The inverse of the compression ratio of Shaib et al., arXiv 2403.00553; without the header of
    gzip, which would count for much in short texts.
    """
    raw = "\n".join(" ".join(text) for text in texts).encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(packer.compress(raw) + packer.flush()) / len(raw) if raw else 0.0


def lexical(vocabulary: int) -> dict[str, Callable[[Words], float]]:
    """Every lexical measure by name, larger is more diverse; `vocabulary` is for EAD."""
    return {
        "1 - self-BLEU-4": lambda texts: 1 - self_bleu(texts),
        "1 - ROUGE-L": lambda texts: 1 - rouge_l(texts),
        "distinct-1": lambda texts: distinct(texts, 1),
        "distinct-2": lambda texts: distinct(texts, 2),
        "distinct-3": lambda texts: distinct(texts, 3),
        "EAD": lambda texts: expectation_adjusted_distinct(texts, vocabulary),
        "compressed size": compressed,
    }


@torch.no_grad()
def mean_log_probability(
    model: Any, ids: Tensor, mask: Tensor, emitted: Tensor, rows: int | None = None
) -> Tensor:
    """Mean log-probability in nats per emitted token under `model` at temperature 1. -> [B]

    `ids`, `mask`: [B, L + T], prompts left-padded; `emitted`: [B, T], the tokens that count.
    `rows`: of one forward; else as many as half a gigabyte of logits allows.
    """
    new = emitted.shape[1]
    rows = rows or batch_rows(model, ids.shape[1])
    means = []
    for start in range(0, len(ids), rows):
        some, seen, counts = (t[start : start + rows] for t in (ids, mask, emitted))
        positions = (seen.long().cumsum(-1) - 1).clamp(min=0)
        logits = model(some, attention_mask=seen, position_ids=positions).logits[:, -new - 1 : -1]
        log_p = logits.float().log_softmax(-1).gather(-1, some[:, -new:, None]).squeeze(-1)
        means.append((log_p * counts).sum(1) / counts.sum(1))
    return torch.cat(means)


def batch_rows(model: Any, length: int) -> int:
    """How many rows of `length` tokens one forward with all its logits may have."""
    width: int = model.get_input_embeddings().num_embeddings
    return max(1, _LOGITS // (width * length))
