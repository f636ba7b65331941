"""The pages of a published soup and of a router, in a real browser."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from bot.localhub import LocalHub

from .chromium import PROGRAM, Opened, open_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]
BLUE = (0, 0x72, 0xB2)  # the soup's and the router's colour in the pictures


@dataclass(frozen=True)
class Published:
    """What a repository's page must show."""

    repo: str
    picture: str
    tags: tuple[str, ...]
    relatives: tuple[str, ...]
    files: tuple[str, ...]
    columns: tuple[str, ...]  # some of its table's


SOUP = Published(
    "stockpot/tiny-soup",
    "categories.png",
    ("v1", "v2"),
    ("tiny/base", "tiny/adder", "odd-author/sorter.v2"),
    ("README.md", "provenance.json", "model.safetensors", "config.json", "tokenizer.json"),
    ("category", "soup", "base"),
)
ROUTER = Published(
    "stockpot/tiny-router",
    "curve.png",
    ("v1",),
    ("tiny/base-text", "tiny/aligned"),
    ("README.md", "router.json", "custom_generate"),
    ("setting", "base share"),
)


@pytest.fixture(scope="module", params=[SOUP, ROUTER], ids=["soup", "router"])
def looked_at(request, hub, tmp_path_factory) -> tuple[Published, Opened, LocalHub]:
    published: Published = request.param
    hub.forget_requests()
    folder = tmp_path_factory.mktemp("browser")
    return published, open_page(f"{hub.url}/{published.repo}", folder), hub


def test_title_and_headline(looked_at):
    published, opened, _ = looked_at
    assert published.repo in opened.page.texts("title")[0]
    assert any(published.repo.split("/")[1] in text for text in opened.page.texts("h1"))


def test_the_browser_fetched_and_painted_the_picture(looked_at):
    published, opened, hub = looked_at
    sources = opened.page.values("img", "src")
    assert [source.rsplit("/", 1)[1] for source in sources] == [published.picture]
    fetched = {r.path: r.status for r in hub.requests if r.path.endswith(published.picture)}
    assert fetched == {urlsplit(sources[0]).path: 200}
    assert opened.painted(BLUE) > 200


def test_nothing_else_was_fetched_and_nothing_failed(looked_at):
    _, opened, hub = looked_at
    page = urlsplit(opened.url).path
    others = {r.path for r in hub.requests} - {page, *opened.page.values("img", "src")}
    assert others <= {"/_style.css", "/favicon.ico"}
    assert {r.status for r in hub.requests if r.path != "/favicon.ico"} == {200}


def test_tables_are_tables(looked_at):
    published, opened, _ = looked_at
    columns = {text.casefold() for text in opened.page.texts("th")}
    for name in published.columns:
        assert any(name in column for column in columns), (name, columns)
    assert not any(text.startswith("|") for text in opened.page.texts("p"))


def test_lineage_links(looked_at):
    published, opened, hub = looked_at
    here = {repo.id for repo in _repositories(hub)}
    links = opened.links()
    for relative in published.relatives:
        assert any(relative in text for text in opened.page.texts("li")), relative
        if relative in here:
            assert f"{hub.url}/{relative}" in links


def test_versions_and_files(looked_at):
    published, opened, hub = looked_at
    links = opened.links()
    for tag in published.tags:
        assert f"{hub.url}/{published.repo}/tree/{tag}" in links
    texts = opened.page.texts("a")
    for file in published.files:
        assert any(text.rstrip("/") == file for text in texts), file
    assert {"files", "versions", "base-models"} <= opened.page.ids


def test_an_ingredients_page_names_the_soup(hub, tmp_path):
    opened = open_page(f"{hub.url}/tiny/adder", tmp_path)
    assert f"{hub.url}/{SOUP.repo}" in opened.links()


def _repositories(hub):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=False).list_models()
