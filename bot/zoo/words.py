"""The lexicon of the tiny language: every word belongs to exactly one class.

The stories draw from it, the tokenizer gives each word a token of its own, and the quality
checker tags words by it. It is a toy English: past tense, no plurals, regular agreement.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CREATURES = _words("""
    fox bear wolf hare owl crow frog toad duck goose cat dog horse goat lamb mouse mole otter
    badger deer king queen sailor baker farmer miller painter doctor teacher singer child girl
    boy witch giant knight
""")
THINGS = _words("""
    lamp key coin ring book map letter stone feather apple pear plum cake loaf pie egg bell
    drum flute rope basket bottle candle mirror hat coat boot ribbon shell seed rose lantern
    box cup spoon kettle umbrella orange
""")
PLACES = _words("""
    river lake forest hill valley garden barn mill tower bridge harbour island meadow market
    kitchen cellar attic cave road field village castle shore well orchard stable
""")
ADJECTIVES = _words("""
    small big old young happy sad brave shy clever quiet loud kind proud tired hungry angry
    gentle strange golden silver red blue green white black bright dark warm cold wet dry soft
    heavy light lucky lonely lazy curious ancient empty
""")
ADVERBS = _words("""
    slowly quickly softly loudly gladly sadly bravely quietly again alone together away outside
    twice often there
""")
PREPOSITIONS = _words("""
    in on near under behind beside over across through by into from past around with to
""")
INTRANSITIVES = _words("""
    slept ran danced sang laughed cried waited walked jumped swam flew hid rested smiled worked
    played sat stood wandered fell climbed lived went dreamed whispered stayed
""")
TRANSITIVES = _words("""
    found lost saw carried painted bought sold made broke wanted liked loved feared followed
    helped called met took gave kept opened cleaned watched
""")
COPULAS = _words("was is seemed felt")
DETERMINERS = _words("the a an this that every one some my our his her")
PRONOUNS = _words("it he she they we i you nobody everyone")
CONJUNCTIONS = _words("and but so or then")
SUBORDINATORS = _words("because when while until after before")
OPENERS = _words("""
    once today yesterday later soon suddenly finally sometimes meanwhile perhaps
""")
QUESTION_WORDS = _words("""
    tell me story about write describe what where why did go find question answer who how
""")

#: One letter a class, for the sentence patterns of the quality checker.
CLASSES: dict[str, tuple[str, ...]] = {
    "N": CREATURES + THINGS + PLACES,
    "A": ADJECTIVES,
    "R": ADVERBS,
    "P": PREPOSITIONS,
    "I": INTRANSITIVES,
    "T": TRANSITIVES,
    "V": COPULAS,
    "D": DETERMINERS,
    "M": PRONOUNS,
    "C": CONJUNCTIONS,
    "B": SUBORDINATORS,
    "O": OPENERS,
}
TAG = {word: tag for tag, words in CLASSES.items() for word in words}

_STARTERS = (
    DETERMINERS + PRONOUNS + CONJUNCTIONS + SUBORDINATORS + OPENERS + ("there", "in", "near")
)
#: Words that may open a sentence or a prompt, capitalised.
CAPITALISED = tuple(
    dict.fromkeys(word.capitalize() for word in _STARTERS + QUESTION_WORDS[:3] + QUESTION_WORDS[4:])
)
LOWER = tuple(dict.fromkeys(word for words in CLASSES.values() for word in words)) + tuple(
    word for word in QUESTION_WORDS if word not in TAG
)
