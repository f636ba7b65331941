"""A Hub with a published soup and router on it, cards and pictures as the bot renders them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from bot import cards
from bot.localhub import LocalHub
from bot.worker.picture import draw
from bot.zoo import card, write_member

from ..cards.conftest import router, soup
from ..worker.test_picture import ROUTER

__all__ = ["router", "soup"]


@pytest.fixture(scope="session")
def hub(tmp_path_factory, soup, router) -> Iterator[LocalHub]:
    """tiny/... are strangers' models; stockpot/... is what is looked at."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        # the client's own way of sending a body, of which its HTTP library disapproves
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        folder = tmp_path_factory.mktemp("hub")
        users = {"stockpot": [], "someone": ["tiny", "odd-author"]}
        with LocalHub(folder, users=users) as running:
            strangers = HfApi(endpoint=running.url, token=running.token("someone"))
            bot = HfApi(endpoint=running.url, token=running.token("stockpot"))
            for repo in ("tiny/base", "tiny/adder", "odd-author/sorter.v2"):
                publish(strangers, repo, {"README.md": card("base", repo).encode()})
            for version in ("v1", "v2"):
                publish(bot, soup.repo, soup_files(soup, version, folder), version)
            publish(bot, router.repo, router_files(router, folder), "v1")
            yield running


def publish(api: HfApi, repo: str, files: dict[str, bytes], tag: str | None = None) -> None:
    """One commit, and a tag where it is a version."""
    api.create_repo(repo, exist_ok=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    done = api.create_commit(repo, operations, commit_message=f"Publish {tag or 'the model'}")
    if tag is not None:
        api.create_tag(repo, tag=tag, revision=done.oid)


def soup_files(soup: cards.SoupCard, version: str, folder: Path) -> dict[str, bytes]:
    write_member("arith", folder / "weights")
    files = {path.name: path.read_bytes() for path in (folder / "weights").iterdir()}
    draw("categories", categories(soup), folder / "picture.png")
    return {
        **files,
        "README.md": cards.render_soup(soup).encode(),
        "provenance.json": f'{{"version": "{version}"}}\n'.encode(),
        str(soup.picture): (folder / "picture.png").read_bytes(),
    }


def router_files(router: cards.RouterCard, folder: Path) -> dict[str, bytes]:
    draw("router", ROUTER, folder / "curve.png")
    return {
        "README.md": cards.render_router(router).encode(),
        "router.json": b"{}\n",
        "custom_generate/generate.py": b'"""The loop."""\n',
        str(router.picture): (folder / "curve.png").read_bytes(),
    }


def categories(soup: cards.SoupCard) -> dict[str, object]:
    """The figures of the card, for the picture."""
    cells = [[row.soup, *row.ingredients, row.base] for row in soup.rows]
    members = [member.model.repo for member in soup.ingredients]
    names = [(soup.repo, "soup"), *((name, "") for name in members), (soup.base.repo, "base")]
    return {
        "split": "report",
        "categories": [row.category for row in soup.rows],
        "models": [
            {
                "name": name,
                "role": role,
                "values": [row[place].value for row in cells],
                "stderr": [row[place].stderr for row in cells],
            }
            for place, (name, role) in enumerate(names)
        ],
    }
