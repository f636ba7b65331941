"""Front matter means the same to every YAML reader, whatever the values are."""

import yaml
from hypothesis import given

from bot.cards.metadata import common, front_matter, model_index
from bot.cards.models import Licence

from .reading import hostile


def read(text):
    assert text.startswith("---\n")
    assert text.endswith("\n---\n")
    assert text.count("\n---") == 1
    return yaml.safe_load(text[4:-4])


@given(hostile)
def test_any_text_keeps_the_keys_and_comes_back_equal(text):
    metadata = common(
        licence=Licence(text, text, text),
        base_models=[text, "a/b"],
        relation="merge",
        tags=["merge"],
        languages=[text],
    ) | {"model-index": model_index(text, text, "ab" * 32, [])}
    assert read(front_matter(metadata)) == metadata


@given(hostile.filter(lambda text: "\ud800" not in text and text.isprintable()))
def test_the_dumper_alone_is_already_safe(text):
    assert read(front_matter({"license": text, "tags": [text]})) == {
        "license": text,
        "tags": [text],
    }


def test_strings_that_yaml_versions_read_differently_are_quoted():
    for text in ("12e4567", "0o17", "1_000", "012", "1:30", "0x1f", ".5", "+1"):
        assert front_matter({"revision": text}) == f'---\nrevision: "{text}"\n---\n'
    for text in ("yes", "no", "null", "on", "true"):
        assert read(front_matter({"license": text})) == {"license": text}


def test_other_licences_carry_name_and_link():
    licence = Licence("other", "tiny-licence", "https://example.org/licence")
    metadata = common(licence=licence, base_models=["a/b"], relation=None, tags=[])
    assert metadata["license"] == "other"
    assert metadata["license_name"] == "tiny-licence"
    assert metadata["license_link"] == "https://example.org/licence"
    assert "base_model_relation" not in metadata


def test_a_base_that_is_its_own_fine_tune_is_listed_once():
    metadata = common(licence=Licence("mit"), base_models=["a/b", "a/b"], relation=None, tags=[])
    assert metadata["base_model"] == ["a/b"]
