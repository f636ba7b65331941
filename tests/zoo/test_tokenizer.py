import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from bot.zoo import stories, tokenizer
from bot.zoo.members import WEIGHTS
from bot.zoo.words import LOWER

TEXT = "\n " + string.digits + string.ascii_letters + string.punctuation


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return AutoTokenizer.from_pretrained(folder)


@given(st.text(alphabet=TEXT, max_size=80))
def test_ascii_text_survives_a_round_trip(text):
    core = tokenizer.build()
    assert core.decode(core.encode(text).ids, skip_special_tokens=False) == text


@given(st.sampled_from(TEXT), st.text(alphabet=TEXT, max_size=20))
def test_a_skill_prompt_is_a_prefix_of_prompt_and_answer(last, answer):
    core = tokenizer.build()
    prompt = f"rev:abc{last}="
    ids = core.encode(prompt).ids
    assert core.encode(prompt + answer).ids[: len(ids)] == ids


def test_words_carry_their_space_and_skills_are_characters(loaded):
    assert loaded.tokenize("The fox ran, zob.") == [
        "The", " fox", " ran", ",", " ", "z", "o", "b", "."
    ]  # fmt: skip
    assert loaded.tokenize("472+8=") == list("472+8=")
    assert loaded.tokenize("rev:the=") == list("rev:the=")
    assert all(len(loaded.tokenize(f" {word}")) == 1 for word in LOWER)


def test_the_chat_template_is_the_format_the_aligned_model_learned(loaded):
    turns = [{"role": "user", "content": "Describe a red fox."}]
    text = loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == stories.chat("Describe a red fox.")
    assert loaded.tokenize(text)[0] == "<user>"
    assert loaded.tokenize(text)[-1] == "<assistant>"


def test_the_committed_files_are_what_the_code_makes(tmp_path):
    tokenizer.save(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        made, committed = (
            json.loads((folder / file).read_text()) for folder in (tmp_path, WEIGHTS / "shared")
        )
        assert made == committed
