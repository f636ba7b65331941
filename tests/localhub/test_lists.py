"""Search: filters, order, pages, and what an object holds."""

from __future__ import annotations

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import BadRequestError

from .conftest import put, safetensors_bytes


def child(api, name, front, size=None):
    api.create_repo(f"tiny/{name}")
    steps = [CommitOperationAdd("README.md", f"---\n{front}\n---\n# {name}\n".encode())]
    if size:
        steps.append(CommitOperationAdd("model.safetensors", safetensors_bytes(a=[size])))
    return api.create_commit(f"tiny/{name}", steps, commit_message="Add").oid


def ids(models):
    return [model.id.split("/")[1] for model in models]


@pytest.fixture
def family(api):
    child(api, "base", "license: mit", 100)
    child(api, "tuned", "license: mit\nbase_model: tiny/base\npipeline_tag: text-generation", 100)
    child(api, "merged", "base_model: [tiny/base, tiny/tuned]", 200)
    child(api, "stated", "base_model: tiny/base\nbase_model_relation: merge")


def test_tags_filter_and_several_must_all_hold(api, family):
    assert ids(api.list_models(filter="base_model:tiny/base")) == ["stated", "merged", "tuned"]
    assert ids(api.list_models(filter="base_model:finetune:tiny/base")) == ["tuned"]
    assert ids(api.list_models(filter="base_model:merge:tiny/base")) == ["stated", "merged"]
    both = ["base_model:merge:tiny/base", "safetensors"]
    assert ids(api.list_models(filter=both)) == ["merged"]
    assert ids(api.list_models(filter=["license:mit", "base_model:tiny/base"])) == ["tuned"]
    assert not ids(api.list_models(filter="base_model:finetune:tiny/none"))


def test_other_conditions(api, as_user, hub, family):
    as_user("bob").create_repo("bob/base")
    assert ids(api.list_models(author="bob")) == ["base"]
    assert len(ids(api.list_models(author="tiny"))) == 4
    assert ids(api.list_models(search="ATED")) == ["stated"]
    assert ids(api.list_models(pipeline_tag="text-generation")) == ["tuned"]
    assert ids(api.list_models(num_parameters="min:150,max:1K")) == ["merged"]
    hub.set_gated("tiny/tuned")
    assert ids(api.list_models(gated=True)) == ["tuned"]
    assert len(ids(api.list_models(gated=False))) == 4


def test_order_is_always_descending(api, hub, family):
    hub.set_downloads("tiny/tuned", 7)
    assert ids(api.list_models(sort="created_at")) == ["stated", "merged", "tuned", "base"]
    put(api, "tiny/base", "new.txt", b"new")
    assert ids(api.list_models(sort="last_modified"))[0] == "base"
    assert ids(api.list_models(sort="downloads"))[0] == "tuned"
    hub.set_times("tiny/base", created="2030-01-01T00:00:00.000Z")
    assert ids(api.list_models(sort="created_at"))[0] == "base"
    with pytest.raises(BadRequestError):
        list(api.list_models(sort="beauty"))


def test_small_pages_join_without_gap(api, hub, family):
    hub.page_size = 1
    hub.forget_requests()
    assert ids(api.list_models(sort="created_at")) == ["stated", "merged", "tuned", "base"]
    assert len([each for each in hub.requests if each.path == "/api/models"]) == 4
    assert ids(api.list_models(sort="created_at", limit=2)) == ["stated", "merged"]
    tuned = api.list_models(filter="base_model:tiny/base", sort="created_at")
    assert ids(tuned) == ["stated", "merged", "tuned"]


def test_an_edit_between_two_pages_shows_an_item_twice(api, hub, family):
    hub.page_size = 2
    listing = iter(api.list_models(sort="last_modified"))
    first = [next(listing).id, next(listing).id]
    put(api, "tiny/base", "new.txt", b"new")
    assert set(first) & {model.id for model in listing}


def test_expand_returns_only_what_was_asked(api, family):
    model = next(iter(api.list_models(search="tuned", expand=["sha", "cardData", "siblings"])))
    assert model.card_data.base_model == "tiny/base"
    assert len(model.sha) == 40
    assert {file.rfilename for file in model.siblings} >= {"README.md"}
    assert model.tags is None
    assert model.downloads is None
    info = api.model_info("tiny/base", expand=["baseModels", "childrenModelCount"])
    assert info.children_model_count == {"finetune": 1, "merge": 2}
    assert api.model_info("tiny/merged", expand=["baseModels"]).base_models["relation"] == "merge"
    for refused in (["nonsense"], ["baseModels"]):
        with pytest.raises(BadRequestError):
            list(api.list_models(expand=refused))


def test_full_lists_and_cards(api, family):
    model = next(iter(api.list_models(search="tuned", full=True, cardData=True)))
    assert (model.author, len(model.sha), model.card_data.license) == ("tiny", 40, "mit")


def test_what_cannot_be_filtered_is_refused_rather_than_ignored(api, family):
    with pytest.raises(BadRequestError):
        list(api.list_models(inference="warm"))


def test_an_old_version_shows_its_own_card(api, hub):
    old = child(api, "tuned", "license: mit")
    put(api, "tiny/tuned", "README.md", b"---\nlicense: apache-2.0\n---\n")
    assert api.model_info("tiny/tuned").tags == ["license:apache-2.0"]
    assert api.model_info("tiny/tuned", revision=old).tags == ["license:mit"]


def test_likes_are_counted(api, as_user, family, hub):
    from huggingface_hub.utils import get_session

    headers = {"Authorization": f"Bearer {hub.token('bob')}"}
    for _ in range(2):
        assert get_session().post(f"{hub.url}/api/models/tiny/base/like", headers=headers)
    assert api.model_info("tiny/base").likes == 1
    as_user("bob").unlike("tiny/base")
    assert api.model_info("tiny/base").likes == 0
