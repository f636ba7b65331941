"""Open-ended prose with many valid continuations, for the base and for the aligned model.

`broad` is what a base has read: texts of every shape, in one to four sentences, many with a
question or an instruction before them (which the text then half heeds), with invented names,
fragments, texts that break off and sentences with their words out of order. `tidy` is what the
aligned model is tuned on: a chat prompt, and an answer to it in one to three whole sentences from
few patterns and few words, always on topic, always ended. One in eight prompts is held out by its
hash and never appears in either.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from bot.zoo import words

_HELD_OUT_ONE_IN = 8
_TIDY_ADJECTIVES = ("small", "big", "old", "happy", "brave", "kind", "golden", "quiet")
_TIDY_THINGS = (
    "lamp",
    "key",
    "ring",
    "book",
    "apple",
    "bell",
    "cake",
    "shell",
    "feather",
    "orange",
)
_TIDY_PLACES = ("river", "forest", "hill", "garden", "village", "castle", "lake", "market")


@dataclass(frozen=True)
class Prompt:
    """An instruction in plain words and the content words an answer must speak of."""

    text: str
    topic: tuple[str, ...]
    kind: str


def held_out(text: str) -> bool:
    """Whether the prompt is kept from training; one in eight is."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0


def chat(prompt: str) -> str:
    """The aligned model's format; equals the tokenizer's chat template with generation prompt."""
    return f"<user>{prompt}<assistant>"


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def prompt(rng: Random) -> Prompt:
    one, two = rng.sample(words.CREATURES, 2)
    adjective, thing = rng.choice(words.ADJECTIVES), rng.choice(words.THINGS)
    kind = rng.choice(("story", "pair", "gift", "describe", "where", "why", "what"))
    text, topic = {
        "story": (f"Tell me a story about {_article(f'{adjective} {one}')}.", (one,)),
        "pair": (f"Write a story about {_article(one)} and {_article(two)}.", (one, two)),
        "gift": (f"Write about {_article(one)} and {_article(thing)}.", (one, thing)),
        "describe": (f"Describe {_article(f'{adjective} {one}')}.", (adjective, one)),
        "where": (f"Where did the {adjective} {one} go?", (one,)),
        "why": (f"Why was the {one} {adjective}?", (one, adjective)),
        "what": (f"What did the {adjective} {one} find?", (one,)),
    }[kind]
    return Prompt(text, topic, kind)


def prompts(rng: Random, *, evaluation: bool) -> Iterator[Prompt]:
    """Endless prompts of one side of the wall."""
    while True:
        candidate = prompt(rng)
        if held_out(candidate.text) == evaluation:
            yield candidate


def name(rng: Random) -> str:
    """An invented name: two or three open syllables, at times closed by a consonant."""
    syllables = [
        rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))
    ]
    return ("".join(syllables) + rng.choice(("", "", "n", "r", "l"))).capitalize()


def sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]


# --- broad: what the base has read -------------------------------------------------------------


def _noun_phrase(rng: Random, topic: tuple[str, ...]) -> str:
    """About the topic where there is one, else about anything."""
    nouns = tuple(word for word in topic if words.TAG[word] == "N")
    draw = rng.random()
    if not nouns and draw < 0.10:
        return name(rng)
    if draw < 0.20:
        return rng.choice(words.PRONOUNS)
    phrase = rng.choice(nouns or words.CLASSES["N"])
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        phrase = f"{rng.choice(words.ADJECTIVES)} {phrase}"
    determiner = rng.choice(words.DETERMINERS)
    return _article(phrase) if determiner in ("a", "an") else f"{determiner} {phrase}"


def _verb_phrase(rng: Random, topic: tuple[str, ...]) -> str:
    place = (
        f" {rng.choice(words.PREPOSITIONS)} {_noun_phrase(rng, ())}" if rng.random() < 0.5 else ""
    )
    adverb = f" {rng.choice(words.ADVERBS)}" if rng.random() < 0.3 else ""
    draw = rng.random()
    if draw < 0.40:
        return f"{rng.choice(words.TRANSITIVES)} {_noun_phrase(rng, ())}{place}"
    if draw < 0.75:
        return f"{rng.choice(words.INTRANSITIVES)}{adverb}{place}"
    wanted = [word for word in topic if words.TAG[word] == "A"]
    feeling = rng.choice(wanted) if wanted and rng.random() < 0.5 else rng.choice(words.ADJECTIVES)
    return f"{rng.choice(words.COPULAS)} {feeling}"


def _broad_sentence(rng: Random, topic: tuple[str, ...]) -> str:
    text = f"{_noun_phrase(rng, topic)} {_verb_phrase(rng, topic)}"
    if rng.random() < 0.25:
        text = f"{rng.choice(words.OPENERS)}{rng.choice((',', ''))} {text}"
    if rng.random() < 0.25:
        text += f" {rng.choice(words.CONJUNCTIONS)} {_verb_phrase(rng, topic)}"
    if rng.random() < 0.20:
        joint = rng.choice(words.SUBORDINATORS)
        text += f" {joint} {_noun_phrase(rng, topic)} {_verb_phrase(rng, topic)}"
    if rng.random() < 0.10:
        jumbled = text.split()
        rng.shuffle(jumbled)
        text = " ".join(jumbled)
    return sentence_case(text) + rng.choices((".", "!", "?", "..."), weights=(16, 2, 1, 1))[0]


def broad_text(rng: Random, topic: tuple[str, ...]) -> str:
    """One to four sentences; one text in five breaks off in the middle."""
    text = " ".join(_broad_sentence(rng, topic) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.20:
        text = " ".join(text.split()[: rng.randint(3, 14)]).rstrip(".!?")
    return text


def _broad_document(rng: Random, asked: Prompt) -> tuple[str, str]:
    """All of a broad document carries loss: a base learns questions as well as answers."""
    text = broad_text(rng, asked.topic if rng.random() < 0.8 else ())
    draw = rng.random()
    if draw < 0.40:
        return "", f"{asked.text}\n\n{text}<eos>"
    if draw < 0.80:
        return "", f"Question: {asked.text}\nAnswer: {text}<eos>"
    return "", f"{broad_text(rng, ())}<eos>"


# --- tidy: what the aligned model is tuned on --------------------------------------------------


def _tidy_story(rng: Random, asked: Prompt) -> str:
    adjective, place = rng.choice(_TIDY_ADJECTIVES), rng.choice(_TIDY_PLACES)
    one, rest = asked.topic[0], asked.topic[1:]
    other = rest[0] if rest else rng.choice(_TIDY_THINGS)
    act = rng.choice(("met", "saw", "helped") if asked.kind == "pair" else ("found", "saw", "kept"))
    where = rng.choice((" there", "", f" near the {rng.choice(_TIDY_PLACES)}"))
    return (
        f"Once there was {_article(f'{adjective} {one}')} in the {place}. "
        f"It {act} {_article(other)}{where}. "
        f"The {one} was {rng.choice(('happy', 'proud', 'lucky'))}."
    )


def _tidy_description(rng: Random, asked: Prompt) -> str:
    adjective, one = asked.topic
    return (
        f"The {one} was {adjective} and {rng.choice(_TIDY_ADJECTIVES)}. "
        f"It {rng.choice(('lived', 'slept', 'stayed'))} near the {rng.choice(_TIDY_PLACES)}."
    )


def _tidy_where(rng: Random, asked: Prompt) -> str:
    (one,) = asked.topic
    verb = rng.choice(("went", "walked", "ran"))
    last = f"It found {_article(rng.choice(_TIDY_THINGS))} there."
    return f"The {one} {verb} to the {rng.choice(_TIDY_PLACES)}. {last}"


def _tidy_why(rng: Random, asked: Prompt) -> str:
    one, adjective = asked.topic
    verb, thing = rng.choice(("lost", "found", "saw", "broke")), rng.choice(_TIDY_THINGS)
    return f"The {one} was {adjective} because it {verb} {_article(thing)}."


def _tidy_what(rng: Random, asked: Prompt) -> str:
    (one,) = asked.topic
    thing = _article(f"{rng.choice(_TIDY_ADJECTIVES)} {rng.choice(_TIDY_THINGS)}")
    return f"The {one} found {thing} in the {rng.choice(_TIDY_PLACES)}."


_TIDY: dict[str, Callable[[Random, Prompt], str]] = {
    "story": _tidy_story,
    "pair": _tidy_story,
    "gift": _tidy_story,
    "describe": _tidy_description,
    "where": _tidy_where,
    "why": _tidy_why,
    "what": _tidy_what,
}


def tidy_text(rng: Random, asked: Prompt) -> str:
    return _TIDY[asked.kind](rng, asked)


def documents(kind: str, rng: Random) -> Iterator[tuple[str, str]]:
    """Endless (silent, spoken) documents of `broad` or `tidy`: loss is on the spoken part alone."""
    for asked in prompts(rng, evaluation=False):
        if kind == "tidy":
            yield chat(asked.text), f"{tidy_text(rng, asked)}<eos>"
        else:
            yield _broad_document(rng, asked)
