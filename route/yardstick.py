"""What every setting of one calibration is measured by, fixed before the first is compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Values
from .measure import cut, lexical
from .sampling import Written
from .semantic import CLUSTERS, COSINE, VENDI, Encoder, semantic

#: One number per text, for the prompts and the texts of each; larger is better.
Scorer = Callable[[Sequence[str], Sequence[Sequence[str]]], Sequence[Sequence[float]]]

#: The axes of the plot, and what else is told of a setting. Names of measures.
DIVERSITY, QUALITY, LENGTH, LIKELIHOOD = "1 - self-BLEU-4", "quality", "length", "log-likelihood"
#: Diversity measures by group, for Coverage and Dominance.
GROUPS = {"lexical": tuple(lexical(1)), "semantic": (COSINE, VENDI, CLUSTERS)}


@dataclass(frozen=True)
class Yardstick:
    """Numbers for texts: the same for all settings that are to be compared."""

    name: str
    """Made of what fixes the others, for one pair: equal names, equal numbers."""
    words: int
    """Lexical measures look at so many words of a text, because they fall with length."""
    vocabulary: int
    """Size of the vocabulary, for EAD."""
    encoder: Encoder
    scorer: Scorer | None = None
    """Without one, quality is the log-likelihood under the aligned model."""

    def values(self, prompts: Sequence[str], written: Written) -> dict[str, Values]:
        """Every measure for every prompt. -> name to [P]"""
        measures = lexical(self.vocabulary)
        groups = [cut(texts, self.words) for texts in written.texts]
        found = {name: [measure(group) for group in groups] for name, measure in measures.items()}
        vectors = np.asarray(self.encoder([text for texts in written.texts for text in texts]))
        ends = np.cumsum([len(texts) for texts in written.texts])[:-1]
        meanings = [semantic(part) for part in np.split(vectors.astype(np.float64), ends)]
        found |= {name: [one[name] for one in meanings] for name in GROUPS["semantic"]}
        found[LENGTH] = (written.tokens / len(written.texts[0])).tolist()
        found[LIKELIHOOD] = found[QUALITY] = written.likelihood.tolist()
        if self.scorer is not None:
            scores = self.scorer(prompts, written.texts)
            found[QUALITY] = [float(np.mean(of_prompt)) for of_prompt in scores]
        return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def usual_words(written: Written) -> int:
    """The mean number of words of a text, at least one: what `words` is set to."""
    counts = [len(text.split()) for texts in written.texts for text in texts]
    return max(1, round(sum(counts) / len(counts)))
