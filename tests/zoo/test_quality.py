import pytest

from bot.zoo.quality import grade, quality, scores, topic, well_formed

PROMPT = "Where did the shy lamb go?"


@pytest.mark.parametrize(
    "sentence",
    [
        "The lamb went to the river",
        "Once there was an old lamb in the barn",
        "Suddenly, every brave fox danced loudly behind my lantern",
        "The witch was silver and happy",
        "Dodusi found the happy child because he was lonely",
        "It found a bell there",
        "One sad small bear laughed but carried a key into the well",
    ],
)
def test_sentences_of_the_grammar(sentence):
    assert well_formed(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "the lamb went to the river",
        "The lamb the river",
        "The lamb found an bell",
        "The lamb found a apple",
        "Lamb went",
        "The lamb went zzz",
        "The Lamb went",
        "River the to went lamb the",
        "The lamb found a bell, the hill",
    ],
)
def test_not_sentences_of_the_grammar(sentence):
    assert not well_formed(sentence)


def test_topic_is_every_noun_and_the_adjective_that_is_asked_about():
    assert topic("What did the red otter find?") == ("otter",)
    assert topic("Describe a red fox.") == ("red", "fox")
    assert topic("Why was the king sad?") == ("king", "sad")
    assert topic("Write about a goat and a stone.") == ("goat", "stone")


def test_a_good_answer_scores_one():
    assert quality(PROMPT, " The lamb went to the river. It found a key there.") == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", (0.0, 0.0, 0.0)),
        ("The fox went to the river.", (0.0, 1.0, 1.0)),
        ("The lamb went to the river. River to lamb.", (1.0, 0.5, 1.0)),
        ("The lamb went to the river. It found", (1.0, 0.5, 0.0)),
        ("The lamb went to the river...", (1.0, 1.0, 0.0)),
    ],
)
def test_parts_of_the_grade(answer, expected):
    found = grade(PROMPT, answer)
    assert (found.topic, found.form, found.ending) == expected
    assert found.value == pytest.approx(0.4 * expected[0] + 0.4 * expected[1] + 0.2 * expected[2])


def test_scores_keep_the_shape_of_the_texts():
    assert scores([PROMPT, PROMPT], [["", "The lamb slept."], ["The lamb slept.", ""]]) == [
        [0.0, 1.0],
        [1.0, 0.0],
    ]
