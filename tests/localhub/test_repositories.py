"""Making, moving and deleting repositories, and who may do and see what."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)

from .conftest import CARD, put


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_whoami_names_the_user_the_organisations_and_the_right(api, as_user):
    me = api.whoami()
    assert (me["name"], [org["name"] for org in me["orgs"]]) == ("alice", ["tiny"])
    assert me["auth"]["accessToken"]["role"] == "write"
    assert as_user("bob", "read").whoami()["auth"]["accessToken"]["role"] == "read"


def test_a_new_repository_has_one_commit_with_attributes(api, hub):
    url = api.create_repo("tiny/base")
    assert (url.repo_id, url.repo_type, str(url)) == ("tiny/base", "model", f"{hub.url}/tiny/base")
    info = api.model_info("tiny/base")
    assert [file.rfilename for file in info.siblings] == [".gitattributes"]
    assert len(info.sha) == 40
    assert [commit.title for commit in api.list_repo_commits("tiny/base")] == ["initial commit"]


def test_creating_twice_is_a_conflict_unless_that_is_fine(api, repo):
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo(repo)
    assert status(error) == 409
    assert api.create_repo(repo, exist_ok=True).repo_id == repo


def test_a_name_without_owner_goes_to_the_users_own_namespace(api):
    assert api.create_repo("mine").repo_id == "alice/mine"


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_other_types_are_repositories_too(api, kind):
    options = {"space_sdk": "static"} if kind == "space" else {}
    api.create_repo("tiny/base", repo_type=kind, **options)
    put(api, "tiny/base", "a.txt", b"a", repo_type=kind)
    assert "a.txt" in api.list_repo_files("tiny/base", repo_type=kind)
    with open(api.hf_hub_download("tiny/base", "a.txt", repo_type=kind), "rb") as file:
        assert file.read() == b"a"
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tiny/base")


def test_a_deleted_repository_is_gone(api, repo):
    api.delete_repo(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo)
    api.delete_repo(repo, missing_ok=True)


def test_a_renamed_repository_redirects_until_the_name_is_taken(api, repo):
    sha = put(api, repo, "README.md", CARD)
    api.move_repo(repo, "tiny/renamed")
    assert api.model_info(repo).id == "tiny/renamed"
    assert api.model_info(repo, revision=sha).sha == sha
    assert put(api, repo, "b.txt", b"through the old name")
    with open(api.hf_hub_download(repo, "README.md"), "rb") as file:
        assert file.read() == CARD
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo)
    api.create_repo(repo)
    assert api.model_info(repo).id == repo


def test_nobody_writes_without_a_token_or_in_a_foreign_namespace(as_user, repo):
    with pytest.raises(HfHubHTTPError) as error:
        as_user(None).create_repo("tiny/other")
    assert status(error) == 401
    for call in (
        lambda api: api.create_repo("tiny/other"),
        lambda api: api.delete_repo(repo),
        lambda api: api.update_repo_settings(repo, private=True),
        lambda api: api.create_tag(repo, tag="v1"),
        lambda api: put(api, repo, "a.txt", b"a"),
        lambda api: api.move_repo(repo, "bob/base"),
    ):
        for stranger in (as_user("bob"), as_user("alice", "read")):
            with pytest.raises(HfHubHTTPError) as error:
                call(stranger)
            assert status(error) == 403


def test_an_unknown_token_is_refused_even_where_none_is_needed(hub, as_user, repo):
    bob = as_user("bob")
    hub.revoke("bob")
    with pytest.raises(HfHubHTTPError) as error:
        bob.model_info(repo)
    assert status(error) == 401
    assert not isinstance(error.value, RepositoryNotFoundError)
    as_user("bob").model_info(repo)


def test_private_repositories_do_not_exist_for_others(api, as_user, repo):
    put(api, repo, "README.md", CARD)
    api.update_repo_settings(repo, private=True)
    assert api.model_info(repo).private
    for stranger in (as_user("bob"), as_user(None)):
        assert not list(stranger.list_models())
        for call in (
            lambda it: it.model_info(repo),
            lambda it: it.list_repo_files(repo),
            lambda it: it.auth_check(repo),
        ):
            with pytest.raises(RepositoryNotFoundError):
                call(stranger)
    assert [model.id for model in api.list_models()] == [repo]
    api.update_repo_settings(repo, private=False)
    assert as_user(None).model_info(repo).id == repo


def test_gated_repositories_show_themselves_but_not_their_files(api, as_user, hub, repo):
    put(api, repo, "README.md", CARD)
    api.update_repo_settings(repo, gated="auto")
    bob, nobody = as_user("bob"), as_user(None)
    assert nobody.model_info(repo).gated == "auto"
    assert nobody.model_info(repo).tags == ["license:mit"]
    for stranger in (bob, nobody):
        with pytest.raises(GatedRepoError):
            stranger.hf_hub_download(repo, "README.md")
        with pytest.raises(GatedRepoError):
            stranger.auth_check(repo)
    assert api.hf_hub_download(repo, "README.md")
    hub.grant(repo, "bob")
    assert bob.hf_hub_download(repo, "README.md", force_download=True)
    hub.set_gated(repo, None)
    nobody.auth_check(repo)


def test_a_disabled_repository_says_so(api, hub, repo):
    hub.set_disabled(repo)
    with pytest.raises(DisabledRepoError):
        api.model_info(repo)
    assert not list(api.list_models())
    hub.set_disabled(repo, False)
    assert api.model_info(repo).id == repo


def test_auth_check_knows_reading_from_writing(api, as_user, repo):
    api.auth_check(repo, write=True)
    as_user("bob").auth_check(repo)
    with pytest.raises(HfHubHTTPError) as error:
        as_user("bob").auth_check(repo, write=True)
    assert status(error) == 403


@pytest.mark.parametrize("name", ["tiny/a--b", "tiny/.hidden", "tiny/x.git"])
def test_bad_names_are_refused_by_the_server_too(hub, api, name):
    from huggingface_hub.utils import get_session

    answer = get_session().post(
        f"{hub.url}/api/repos/create",
        headers={"Authorization": f"Bearer {hub.token('alice')}"},
        json={"organization": "tiny", "name": name.split("/")[1]},
    )
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_every_answer_has_a_request_id_and_errors_say_what_they_are(hub):
    from huggingface_hub.utils import get_session

    missing = get_session().get(f"{hub.url}/api/models/tiny/none")
    assert missing.status_code == 404
    assert missing.headers["X-Error-Code"] == "RepoNotFound"
    assert missing.headers["X-Error-Message"] == missing.json()["error"]
    assert missing.headers["X-Request-Id"]
    assert get_session().get(f"{hub.url}/api/models").headers["X-Request-Id"]
