"""Settings: one `bot.toml`, overridden by `BOT_*` environment variables.

The token never stands in the file. It comes from `BOT_TOKEN` or from the file that `token_file`
names, and no representation of the settings shows it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bot.errors import Misconfigured
from bot.sections import BaseSection, Publish

DEFAULT_FILE = Path("bot.toml")


def _url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} is not an http:// or https:// address")
    return value.rstrip("/")


class Settings(BaseSettings):
    """Everything an operator decides. Field docstrings are the comments that `bot init` writes."""

    model_config = SettingsConfigDict(
        env_prefix="BOT_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # the input holds the token
    )

    endpoint: Annotated[str, AfterValidator(_url)] = "https://huggingface.co"
    """The Hub."""
    token: SecretStr | None = None
    """The Hub token: set BOT_TOKEN, or name a file in `token_file`. Never written to bot.toml."""
    token_file: Path | None = None
    """A file that holds the token and that nobody else may read."""
    data: Path = Path("data")
    """Models, artefacts, drafts; subfolders can be deleted, and are fetched or built again, except
    `drafts` while one waits."""
    database: str = "sqlite:///data/stockpot.db"
    """SQLAlchemy URL of the database."""
    publish: Publish = Publish.AUTO
    """auto publishes what passes the gate, ask waits for `bot approve`, off only keeps the table.
    """
    poll_seconds: float = Field(900, gt=0)
    """How often the newest fine-tunes are listed."""
    sweep_seconds: float = Field(86_400, gt=0)
    """How often all fine-tunes are listed by last change: finds what the newest-first list missed.
    """
    settle_seconds: float = Field(3600, ge=0)
    """Quiet time after a new score before experts are chosen, so that a wave shares one search."""
    patience_seconds: float = Field(86_400, ge=0)
    """At the latest so long after a new score experts are chosen, even while others are waiting."""
    contact: str | None = None
    """Whom a reader of our pages can ask, one line; left out: a discussion at the repository."""
    publications_per_day: int = Field(4, ge=1)
    """The most versions that one base may publish in 24 hours."""
    child_seconds: float = Field(6 * 3600, gt=0)
    """Deadline of one child process."""
    child_gb: float = Field(16.0, gt=0)
    """Memory of one child process and its descendants, in gigabytes."""
    health_port: int | None = None
    """Port of the health and metrics page; left out: none."""
    compute_slots: int = Field(1, ge=1)
    """How many heavy steps run at the same time, each in a child of its own."""
    warm_children: bool = False
    """Keep one child started ahead of its job: saves seconds a step, costs some 400 MB."""
    allow_root: bool = False
    """Run as root. A child that breaks out would be root too."""
    bases: tuple[BaseSection, ...] = ()
    """The bases to watch."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        targets = [b.target for b in self.bases] + [b.router.target for b in self.bases if b.router]
        sources = [b.repo for b in self.bases]
        if twice := _twice(sources):
            raise ValueError(f"two sections watch {twice}")
        if twice := _twice(targets):
            raise ValueError(f"two sections publish to {twice}")
        if both := sorted({*sources} & {*targets}):
            raise ValueError(f"{both[0]} is watched as a base; it cannot be published to")
        return self

    def base(self, repo: str) -> BaseSection:
        """The section of `repo`.

        Raises:
            Misconfigured: no section has this base.
        """
        for section in self.bases:
            if section.repo == repo:
                return section
        known = ", ".join(b.repo for b in self.bases) or "none"
        raise Misconfigured(f"{repo} is not a configured base (configured: {known})")

    def publish_mode(self, section: BaseSection) -> Publish:
        return section.publish or self.publish

    def read_token(self) -> str | None:
        """The token itself; the only call that reveals it.

        Raises:
            Misconfigured: `token_file` is not there, or others may read it.
        """
        if self.token is not None:
            return self.token.get_secret_value()
        if self.token_file is None:
            return None
        if not self.token_file.is_file():
            raise Misconfigured(f"token_file {self.token_file} does not exist")
        if self.token_file.stat().st_mode & 0o077:
            raise Misconfigured(f"token_file {self.token_file} is open to others: chmod 600 it")
        return self.token_file.read_text().strip()


def _twice(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


def load_settings(path: Path | None = DEFAULT_FILE, **overrides: Any) -> Settings:
    """Settings from `path` (no file: None), the environment and `overrides`, the later ones
    winning. Relative paths in the file are taken from the file's folder.

    Raises:
        Misconfigured: the file is missing or a field is wrong; names the field and the reason.
    """
    if path is not None and not path.is_file():
        raise Misconfigured(f"{path} does not exist: `bot init` writes one, --config names another")

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        if path and "token" in tomllib.loads(path.read_text(encoding="utf-8")):
            raise Misconfigured(f"{path}: token: set BOT_TOKEN or token_file; files get shared")
        settings = FileSettings(**overrides)
    except ValidationError as error:
        where = path or "settings"
        raise Misconfigured(f"{where}: " + "; ".join(map(_sentence, error.errors()))) from error
    except ValueError as error:  # syntax errors of the file, or of JSON in the environment
        raise Misconfigured(f"{path}: {error}") from error
    folder = path.resolve().parent if path else Path.cwd()
    return settings.model_copy(update=_anchored(settings, folder))


def _sentence(error: ErrorDetails) -> str:
    """Where in the file, and why: `bases.0.sha: ...`."""
    place = ".".join(map(str, error["loc"]))
    reason = error["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def _anchored(settings: Settings, folder: Path) -> dict[str, Any]:
    """Relative paths are taken from the folder of the settings file."""
    prefix = "sqlite:///"
    database = settings.database
    relative = database.removeprefix(prefix)
    if database.startswith(prefix) and relative and not relative.startswith(("/", ":memory:")):
        database = f"{prefix}{folder / relative}"
    return {
        "data": folder / settings.data,
        "database": database,
        "token_file": settings.token_file and folder / settings.token_file,
        "bases": tuple(_anchored_base(section, folder) for section in settings.bases),
    }


def _anchored_base(section: BaseSection, folder: Path) -> BaseSection:
    update: dict[str, Any] = {}
    if "/" in section.benchmark:
        update["benchmark"] = str(folder / section.benchmark)
    if section.router is not None:
        prompts = str(folder / section.router.prompts)
        update["router"] = section.router.model_copy(update={"prompts": prompts})
    return section.model_copy(update=update)
