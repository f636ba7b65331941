"""How different several texts for one prompt are in meaning, as far as embeddings tell.

Without an encoder the texts are embedded by the aligned model itself: the mean of its last hidden
states over the text, read without a prompt, minus the mean of such vectors over reference texts.
Hidden states of a language model point mostly the same way (Ethayarajh, arXiv 1909.00512); what
they share says nothing about difference, so it is taken off once and for all. Ours.

Not promised: that a language model's states are a good measure of meaning. A sentence encoder is
better where there is one; whatever takes texts and gives vectors can be passed in its place.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]

#: Texts to one vector each, [N] -> [N, D].
Encoder = Callable[[Sequence[str]], Any]

#: Texts with at least this cosine count as saying the same. Ours.
SAME = 0.8
COSINE, VENDI, CLUSTERS = "1 - cosine", "Vendi score", "clusters"


def semantic(vectors: Matrix) -> dict[str, float]:
    """Every semantic measure of the texts of one prompt, [N, D]; larger is more diverse."""
    kernel = similarity(vectors)
    return {
        COSINE: 1 - mean_cosine(kernel),
        VENDI: vendi(kernel),
        CLUSTERS: float(clusters(kernel)),
    }


def similarity(vectors: Matrix) -> Matrix:
    """Cosines, [N, D] -> [N, N]. Texts without a vector (zeros: empty ones) equal each other."""
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(norms == 0, 1.0, norms)[:, None]
    empty = norms == 0
    kernel = unit @ unit.T + np.outer(empty, empty)
    np.fill_diagonal(kernel, 1.0)
    return np.asarray(kernel)


def mean_cosine(kernel: Matrix) -> float:
    """Mean over pairs of different texts. [N, N]; raises ValueError for a single text."""
    n = len(kernel)
    if n < 2:
        raise ValueError(f"cosines compare texts, got {n}")
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def vendi(kernel: Matrix) -> float:
    """exp(-sum_i l_i log l_i), l the eigenvalues of K / N: the effective number of different texts.

    1 where all are equal, N where all are orthogonal (Friedman and Dieng, arXiv 2210.02410).
    """
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def clusters(kernel: Matrix, same: float = SAME) -> int:
    """Classes of a greedy partition: a text joins the first class whose first member is alike.

    The procedure of NoveltyBench (arXiv 2504.05228) with cosine in place of its trained judge.
    """
    firsts: list[int] = []
    for index in range(len(kernel)):
        if all(kernel[index, first] < same for first in firsts):
            firsts.append(index)
    return len(firsts)


class HiddenStates:
    """An encoder made of a causal language model; see the module.

    `reference`: the texts whose mean is the origin.
    """

    def __init__(self, model: Any, tokenizer: Any, reference: Sequence[str], rows: int = 32):
        self._model, self._tokenizer, self._rows = model, tokenizer, rows
        self._origin: Matrix = np.zeros(1)
        seen = self._read(list(dict.fromkeys(reference)))
        self._origin = seen[np.any(seen != 0, axis=1)].mean(axis=0) if seen.any() else np.zeros(1)

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """[N] -> [N, D]; zeros for an empty text."""
        vectors = self._read(texts)
        present = np.any(vectors != 0, axis=1)
        return np.asarray(np.where(present[:, None], vectors - self._origin, 0.0))

    def _read(self, texts: Sequence[str]) -> Matrix:
        rows = [
            list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts
        ]
        parts = [self._pool(rows[i : i + self._rows]) for i in range(0, len(rows), self._rows)]
        return np.concatenate(parts)

    @torch.no_grad()
    def _pool(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Padded on the right, where a causal model does not look."""
        device = self._model.device
        counts = torch.tensor([len(row) for row in rows], device=device)
        longest = max(1, int(counts.max()))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
        mask = torch.arange(longest, device=device)[None] < counts[:, None]
        # A text without tokens still needs one slot to be read; it is not counted below.
        seen = mask | (torch.arange(longest, device=device)[None] == 0)
        states = self._model.base_model(ids, attention_mask=seen.long()).last_hidden_state
        total = (states.float() * mask[:, :, None]).sum(1) / counts.clamp(min=1)[:, None]
        return np.asarray(total.double().cpu().numpy())
