"""How good an answer is, by rule: on topic, in whole sentences of the tiny grammar, properly ended.

    quality = 0.4 * topic + 0.4 * form + 0.2 * ending,  each in [0, 1]

topic: share of the prompt's content words that the answer speaks of. form: share of its sentences
that the grammar accepts. ending: whether it stops after a sentence rather than inside one.
Wider than the aligned model's own patterns: any well-formed sentence of the language counts, so a
model that has only one answer is not preferred to one that has many.

Not promised: that an answer makes sense. "The lake ate nobody" would pass if `ate` were a word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bot.zoo.words import TAG

_TOKEN = re.compile(r"[A-Za-z]+|\.{3}|[.,!?]|\S")
_NAME = re.compile(r"(?:[bdfgklmnprstvz][aeiou]){2,3}[nrl]?", re.IGNORECASE)
_VOWELS = tuple("aeiou")

# One letter a word class (words.CLASSES); the sentence patterns are regular over those letters.
_NP = "(?:DA*N|M)"
_PP = f"(?:P{_NP})"
_VP = f"(?:T{_NP}R?{_PP}?|IR?{_PP}?R?|V(?:A(?:CA)?|{_PP}))"
_CLAUSE = f"(?:{_NP}{_VP}|RV{_NP}{_PP}?)"
_SENTENCE = re.compile(f"(?:O,?)?{_CLAUSE}(?:C{_NP}?{_VP})*(?:B{_NP}{_VP})?")


@dataclass(frozen=True)
class Grade:
    topic: float
    form: float
    ending: float

    @property
    def value(self) -> float:
        return 0.4 * self.topic + 0.4 * self.form + 0.2 * self.ending


def topic(prompt: str) -> tuple[str, ...]:
    """The words an answer must speak of: every noun; the adjective too where it is asked about."""
    found = [word for word in re.findall(r"[a-z]+", prompt.lower()) if word in TAG]
    wanted = "NA" if prompt.startswith(("Describe", "Why")) else "N"
    return tuple(word for word in found if TAG[word] in wanted)


def well_formed(sentence: str) -> bool:
    """Whether the grammar accepts one sentence, given without its closing mark."""
    tokens = _TOKEN.findall(sentence)
    if not tokens or not tokens[0][0].isupper() or not _articles_agree(tokens):
        return False
    tags = "".join(_tag(token, first=index == 0) for index, token in enumerate(tokens))
    return _SENTENCE.fullmatch(tags) is not None


def grade(prompt: str, answer: str) -> Grade:
    """Grade an answer, without end or chat tokens, to a prompt in plain words."""
    text = answer.strip()
    wanted = topic(prompt)
    said = set(re.findall(r"[a-z]+", text.lower()))
    sentences = [part.strip() for part in re.split(r"[.!?]+", text) if part.strip()]
    if not sentences:
        return Grade(0.0, 0.0, 0.0)
    return Grade(
        topic=sum(word in said for word in wanted) / len(wanted) if wanted else 1.0,
        form=sum(map(well_formed, sentences)) / len(sentences),
        ending=float(re.search(r"(?<!\.)[.!?]$", text) is not None),
    )


def quality(prompt: str, answer: str) -> float:
    """`grade(prompt, answer).value`, in [0, 1]."""
    return grade(prompt, answer).value


def scores(prompts: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """`quality` of every text of every prompt, [P][N]: the scorer that a calibration takes."""
    return [
        [quality(prompt, text) for text in written]
        for prompt, written in zip(prompts, texts, strict=True)
    ]


def _tag(token: str, *, first: bool) -> str:
    if not token.isalpha():
        return token
    word = token.lower()
    if word in TAG and (first or token.islower()):
        return TAG[word]
    return "M" if token[0].isupper() and _NAME.fullmatch(token) else "?"


def _articles_agree(tokens: list[str]) -> bool:
    return all(
        article.lower() not in ("a", "an")
        or (article.lower() == "an") == word.lower().startswith(_VOWELS)
        for article, word in pairwise(tokens)
    )
