"""Pages for people: what they show, and what they do not let through."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.utils import get_session
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub.pages import markdown

from .conftest import put, safetensors_bytes
from .test_commits import raw_commit

FRONT = "---\nlicense: apache-2.0\nbase_model: [tiny/base, far/away]\ntags: [soup]\n---\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str | None]:
        return [attrs.get(name) for found, attrs in self.tags if found == tag]


def get(hub, path: str, status: int = 200) -> Page:
    answer = get_session().get(hub.url + path, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    return Page(answer.text)


@pytest.fixture
def soup(api, hub):
    api.create_repo("tiny/base")
    api.create_repo("tiny/soup")
    card = FRONT + "# A soup\n\n![scores](scores.png) [how](docs/how.md#x) | **bold**\n"
    steps = [
        CommitOperationAdd("README.md", card.encode()),
        CommitOperationAdd("scores.png", PNG),
        CommitOperationAdd("docs/how.md", b"so"),
        CommitOperationAdd("model.safetensors", safetensors_bytes(a=[1200])),
    ]
    sha = api.create_commit("tiny/soup", steps, commit_message="Version 1").oid
    api.create_tag("tiny/soup", tag="v1")
    hub.set_downloads("tiny/soup", 1234)
    return sha


def test_the_model_page_shows_what_there_is_to_know(hub, soup):
    page = get(hub, "/tiny/soup")
    for words in ("A soup", "apache-2.0", "1.23K", "1.2K", "F32", "Version 1", "v1", "merge", soup):
        assert words in page.text
    assert f"/tiny/soup/resolve/{soup}/scores.png" in page.values("img", "src")
    links = page.values("a", "href")
    assert f"/tiny/soup/blob/{soup}/docs/how.md" in links
    assert f"/tiny/soup/resolve/{soup}/model.safetensors" in links
    assert "/tiny/base" in links
    assert "/far/away" not in links
    assert "far/away" in page.text


def test_pictures_arrive_as_pictures(hub, soup):
    picture = get_session().get(f"{hub.url}/tiny/soup/resolve/{soup}/scores.png")
    assert (picture.headers["Content-Type"], picture.content) == ("image/png", PNG)


def test_lineage_goes_both_ways(hub, soup):
    assert "/tiny/soup" in get(hub, "/tiny/base").values("a", "href")


def test_every_link_of_the_pages_leads_somewhere(hub, soup, api):
    api.create_discussion("tiny/soup", "A question")
    seen, todo = set(), ["/"]
    while todo:
        path = todo.pop()
        answer = get_session().get(hub.url + path, headers={"Accept": "text/html"})
        assert answer.status_code == 200, path
        seen.add(path)
        if answer.headers["Content-Type"].startswith("text/html"):
            links = {str(link).split("#")[0] for link in Page(answer.text).values("a", "href")}
            todo += [each for each in links - seen - set(todo) if each.startswith("/")]
    assert len(seen) > 15


def test_old_versions_keep_their_page(hub, api, soup):
    put(api, "tiny/soup", "README.md", (FRONT + "# Another soup").encode())
    assert "Another soup" in get(hub, "/tiny/soup").text
    assert "Another soup" not in get(hub, f"/tiny/soup/tree/{soup}").text
    assert "Another soup" not in get(hub, "/tiny/soup/tree/v1").text


def test_lists_search_and_filter(hub, soup):
    assert {"/tiny/soup", "/tiny/base"} <= set(get(hub, "/").values("a", "href"))
    assert "/tiny/base" not in get(hub, "/?q=soup").values("a", "href")
    assert "/tiny/base" not in get(hub, "/?tag=license:apache-2.0").values("a", "href")
    assert "/tiny/base" in get(hub, "/tiny").values("a", "href")


def test_what_is_not_there_is_a_page_too(hub, api, soup):
    assert "404" in get(hub, "/tiny/none", 404).text
    api.update_repo_settings("tiny/soup", private=True)
    assert "soup" not in get(hub, "/tiny/soup", 404).text
    assert "/tiny/soup" not in get(hub, "/").values("a", "href")


def test_gated_contents_stay_closed(hub, soup):
    hub.set_gated("tiny/soup")
    get(hub, f"/tiny/soup/blob/{soup}/docs/how.md", 401)


def test_a_hostile_card_is_only_text(hub, api):
    api.create_repo("tiny/bad")
    card = (
        "---\ntags: ['<script>alert(1)</script>', '\"onload=alert(2)']\nlicense: '<b>'\n---\n"
        "<script>alert(3)</script>\n\n<img src=x onerror=alert(4)>\n\n"
        "[a](javascript:alert(5)) ![b](javascript:alert(6)) [c](data:text/html,x)\n"
    )
    line = {"path": "README.md", "content": card, "encoding": "utf-8"}
    assert raw_commit(hub, "tiny/bad", {"key": "file", "value": line}).is_success
    put(api, "tiny/bad", "<script>alert(7)<", b"x", commit_message="<script>alert(8)</script>")
    for path in ("/tiny/bad", "/", "/tiny/bad/commits/main"):
        page = get(hub, path)
        assert "script" not in [tag for tag, _ in page.tags]
        for _, attrs in page.tags:
            assert not [name for name in attrs if name.startswith("on")]
            for name in ("href", "src"):
                assert not str(attrs.get(name, "")).lower().startswith(("javascript:", "data:text"))


SAFE = {
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "a", "img", "br", "hr", "ul"),
    *("ol", "li", "blockquote", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"),
}


@given(st.text(alphabet=st.sampled_from("<>[]()!\"'`*#|\\/:&;=-.\n ajsx1"), max_size=80))
def test_no_card_makes_other_tags_or_addresses(text):
    for tag, attrs in Page(markdown.render(text, "a/b", "main")).tags:
        assert tag in SAFE
        assert set(attrs) <= {"href", "src", "alt", "title", "id", "class", "start"}
        assert not str(attrs.get("href", "")).lower().startswith("javascript:")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a.png", "/o/n/resolve/main/a.png"),
        ("./x/../a%20b.png", "/o/n/resolve/main/a%20b.png"),
        ("../../api/x", "../../api/x"),
        ("%2e%2e/x", "%2e%2e/x"),
        ("/tiny/base", "/tiny/base"),
        ("https://example.org/a.png", "https://example.org/a.png"),
    ],
)
def test_relative_addresses(written, shown):
    page = Page(markdown.render(f"![x]({written})", "o/n", "main"))
    assert page.values("img", "src") == [shown]
