"""Settings from a file and the environment, and the errors that people will meet."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bot.config import Settings, load_settings
from bot.errors import Misconfigured
from bot.sections import BaseSection, Publish, RouterSettings
from bot.template import settings_template

SHA = "0123456789abcdef" * 2 + "01234567"
SECRET = "hf_doNotShowThisAnywhere"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("BOT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bot.toml"


def base(**more: Any) -> str:
    """A `[[bases]]` table."""
    given = {"repo": "org/base", "sha": SHA, "target": "us/soup", **more}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if value is not None]
    return "\n".join(["[[bases]]", *lines, ""])


def router(**more: Any) -> str:
    given = {"aligned": "soup", "target": "us/router", "prompts": "p.jsonl", **more}
    return "[bases.router]\n" + "\n".join(f"{n} = {json.dumps(v)}" for n, v in given.items())


def load(file: Path, text: str, **overrides: Any) -> Settings:
    file.write_text(text)
    return load_settings(file, **overrides)


# -- the file that `bot init` writes --------------------------------------------------------------


def uncommented(template: str) -> str:
    """Every `# key = value` and `# [table]` line without its mark; prose stays prose."""
    lines = []
    for line in template.splitlines():
        bare = line.removeprefix("# ")
        key = bare.partition(" = ")[0]
        is_field = " = " in bare and key.replace("_", "").isalnum() and key.islower()
        lines.append(bare if is_field or bare.startswith("[") else line)
    return "\n".join(lines)


def test_the_template_is_a_valid_file_that_changes_nothing(file):
    assert load(file, settings_template()).model_dump(exclude={"data", "database"}) == (
        Settings().model_dump(exclude={"data", "database"})
    )


def test_the_template_with_every_mark_removed_is_valid_and_complete(file):
    text = uncommented(settings_template())
    raw = tomllib.loads(text)
    (section,) = raw["bases"]
    assert raw.keys() | {"token"} == set(Settings.model_fields)
    assert section.keys() == set(BaseSection.model_fields)
    assert section["router"].keys() == set(RouterSettings.model_fields)
    loaded = load(file, text)
    assert loaded.bases[0].router is not None


def test_the_template_shows_the_defaults(file):
    raw = tomllib.loads(uncommented(settings_template()))
    shown = [(Settings, raw), (BaseSection, raw["bases"][0])]
    shown.append((RouterSettings, raw["bases"][0]["router"]))
    for model, values in shown:
        for name, field in model.model_fields.items():
            if name in values and field.default and name != "bases" and not field.is_required():
                assert values[name] == json.loads(json.dumps(plain(field.default))), name


def plain(value: Any) -> Any:
    return (
        list(value)
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
    )


def test_every_line_of_the_template_is_a_comment():
    assert [x for x in settings_template().splitlines() if x and not x.startswith("# ")] == []


@pytest.mark.parametrize("model", [Settings, BaseSection, RouterSettings])
def test_every_field_is_documented(model: type[BaseModel]):
    undocumented = [n for n, f in model.model_fields.items() if len(f.description or "") < 8]
    assert undocumented == []


# -- values ----------------------------------------------------------------------------------------


def test_a_small_file_is_enough(file):
    settings = load(file, base())
    assert settings.base("org/base").target == "us/soup"
    assert settings.publish_mode(settings.bases[0]) is Publish.AUTO
    with pytest.raises(Misconfigured, match=r"x/y is not a configured base \(configured: org/base"):
        settings.base("x/y")


def test_a_base_may_publish_otherwise_than_the_bot(file):
    settings = load(file, 'publish = "ask"\n' + base(publish="off"))
    assert settings.publish_mode(settings.bases[0]) is Publish.OFF


def test_the_environment_is_stronger_than_the_file_and_arguments_stronger_still(file, monkeypatch):
    monkeypatch.setenv("BOT_POLL_SECONDS", "60")
    monkeypatch.setenv("BOT_PUBLISH", "off")
    text = 'poll_seconds = 5\npublish = "ask"\nsettle_seconds = 7'
    settings = load(file, text, publish="auto")
    assert settings.poll_seconds == 60
    assert settings.settle_seconds == 7
    assert settings.publish is Publish.AUTO


def test_relative_paths_are_taken_from_the_folder_of_the_file(file):
    section = base(benchmark="suites/mine") + router()
    text = 'data = "d"\ndatabase = "sqlite:///db/x.db"\ntoken_file = "t"\n' + section
    settings, folder = load(file, text), file.parent
    assert settings.data == folder / "d"
    assert settings.database == f"sqlite:///{folder}/db/x.db"
    assert settings.token_file == folder / "t"
    assert settings.bases[0].benchmark == f"{folder}/suites/mine"
    assert settings.bases[0].router is not None
    assert settings.bases[0].router.prompts == f"{folder}/p.jsonl"


@pytest.mark.parametrize(
    "database", ["sqlite:////var/x.db", "postgresql+psycopg://h/x", "sqlite:///:memory:"]
)
def test_absolute_places_stay_where_they_are(file, database):
    settings = load(file, f'data = "/srv/d"\ndatabase = "{database}"\n' + base())
    assert (str(settings.data), settings.database) == ("/srv/d", database)
    assert settings.bases[0].benchmark == "tiny_skills"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("poll_second = 5", ["poll_second", "not permitted"]),
        ("poll_seconds = -5", ["poll_seconds", "greater than 0"]),
        ('poll_seconds = "often"', ["poll_seconds", "number"]),
        ('publish = "maybe"', ["publish", "'auto', 'ask' or 'off'"]),
        ('endpoint = "huggingface.co"', ["endpoint", "https://"]),
        ("poll_seconds = \nseed = 1", ["at line 1"]),
        (base(sha="main"), ["bases.0.sha", "a branch name moves"]),
        (base(sha=SHA.upper()), ["bases.0.sha", "40-hex"]),
        (base(sha=None), ["bases.0.sha", "required"]),
        (base(repo="base"), ["bases.0.repo", "ORG/NAME"]),
        (base(repo="a/b/c"), ["bases.0.repo", "ORG/NAME"]),
        (base(donor="org/donor"), ["bases.0.donor", "ORG/NAME@SHA"]),
        (base(shares=[0.5, 0.5, 0.5]), ["bases.0.shares", "sum to 1"]),
        (base(shares=[1.0, 0.0, 0.0]), ["bases.0.shares", "positive"]),
        (base() + "shares = [nan, 0.5, 0.5]", ["bases.0.shares", "positive"]),
        (base() + "margin = nan", ["bases.0.margin"]),
        (base(margin=2), ["bases.0.margin"]),
        (base(tau=3), ["bases.0.tau"]),
        (base(allow_private=True), ["bases.0", "set private = true too"]),
        (base(strategy="luck"), ["bases.0.strategy", "'grid'"]),
        (base() + router(aligned="org/chat"), ["bases.0.router.aligned", "ORG/NAME@SHA"]),
        (base() + router(router="Q"), ["bases.0.router.router", "'P-PUNC'"]),
        (base() + router(target="us/soup"), ["two sections publish to us/soup"]),
        (base() + base(), ["two sections watch org/base"]),
        (base() + base(repo="org/other"), ["two sections publish to us/soup"]),
        (base(target="org/base"), ["org/base is watched as a base"]),
    ],
)
def test_errors_name_the_file_the_field_and_the_reason(file, text, words):
    with pytest.raises(Misconfigured) as error:
        load(file, text)
    assert [word for word in [str(file), *words] if word not in str(error.value)] == []


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(Misconfigured, match=r"nothing\.toml does not exist: `bot init` writes one"):
        load_settings(tmp_path / "nothing.toml")


def test_bad_json_in_the_environment_is_named(file, monkeypatch):
    monkeypatch.setenv("BOT_BASES", "[{")
    with pytest.raises(Misconfigured, match="bases"):
        load(file, "")


# -- the token -------------------------------------------------------------------------------------


def test_the_token_is_shown_by_nothing_but_its_one_call(file, monkeypatch):
    monkeypatch.setenv("BOT_TOKEN", SECRET)
    settings = load(file, base())
    assert settings.read_token() == SECRET
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    shown += [str(vars(settings)), json.dumps(settings.model_dump(mode="json"))]
    assert [text for text in shown if SECRET in text] == []


def test_no_error_shows_the_token(file, monkeypatch):
    monkeypatch.setenv("BOT_TOKEN", SECRET)
    with pytest.raises(Misconfigured) as error:
        load(file, base() + base())
    cause = error.value.__cause__
    assert SECRET not in f"{error.value} {cause} {cause!r}"


def test_a_token_in_the_file_is_refused_and_not_repeated(file):
    with pytest.raises(Misconfigured, match="set BOT_TOKEN or token_file") as error:
        load(file, f'token = "{SECRET}"')
    assert SECRET not in f"{error.value} {error.value.__cause__!r}"


def test_a_token_file_is_read_when_it_is_private(file):
    settings = load(file, 'token_file = "token"')
    with pytest.raises(Misconfigured, match="does not exist"):
        settings.read_token()
    token = file.with_name("token")
    token.write_text(f"{SECRET}\n")
    token.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        settings.read_token()
    token.chmod(0o600)
    assert settings.read_token() == SECRET


def test_without_a_token_there_is_none(file):
    assert load(file, "").read_token() is None
