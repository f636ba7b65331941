"""YAML front matter by the Hub's model card conventions.

Our own dictionary through PyYAML's safe dumper: the key set is fixed here, and every foreign value
is a repository id, a plain token or a cleaned label before it gets in. Strings that YAML 1.1 and
1.2 readers could take for different things (`12e456` is a string to one and a number to the other)
are always quoted; the text is ASCII.

Scores go into `model-index`, not into `.eval_results/`: the latter is for benchmarks registered on
the Hub.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bot.cards.escape import DIGEST, label, repo_id, token
from bot.cards.figures import Score
from bot.cards.models import Licence

NOT_FOR_ALL = "not-for-all-audiences"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ./_-]*")
_HTTPS = re.compile(r"https://[\w.-]+(?:/[\w./~%#?=&+-]*)?", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that is not plain words."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_str(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_str)


def front_matter(metadata: Mapping[str, Any]) -> str:
    """The `---` block at the head of a card."""
    body = yaml.dump(dict(metadata), Dumper=_Dumper, sort_keys=False, width=2**31 - 1)
    return f"---\n{body}---\n"


def common(
    *,
    licence: Licence,
    base_models: Sequence[str],
    relation: str | None,
    tags: Sequence[str],
    languages: Sequence[str] = (),
    not_for_all_audiences: bool = False,
) -> dict[str, Any]:
    """The keys that soups and routers share. `relation` is the Hub's `base_model_relation`."""
    metadata: dict[str, Any] = {"license": token(licence.id)}
    if licence.name is not None:
        metadata["license_name"] = token(licence.name)
    if licence.link is not None:
        metadata["license_link"] = _link(licence.link)
    metadata["library_name"] = "transformers"
    metadata["pipeline_tag"] = "text-generation"
    metadata["base_model"] = list(dict.fromkeys(map(repo_id, base_models)))
    if relation is not None:
        metadata["base_model_relation"] = relation
    if languages:
        metadata["language"] = [token(language) for language in languages]
    metadata["tags"] = [*tags, NOT_FOR_ALL] if not_for_all_audiences else list(tags)
    return metadata


def model_index(
    repo: str, suite: str, revision: str, scores: Sequence[tuple[str, Score]]
) -> list[dict[str, Any]]:
    """One result per (category, score on the report split); values are shares in [0, 1].

    `revision` is the digest of the suite: the items are its, whatever its version is called.
    """
    if not DIGEST.fullmatch(revision):
        raise ValueError(f"not the digest of a suite: {revision!r}")
    results = [_result(label(suite), revision, label(name), score) for name, score in scores]
    return [{"name": repo_id(repo).rpartition("/")[2], "results": results}]


def _result(suite: str, revision: str, category: str, score: Score) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": category},
        "dataset": {
            "name": f"{suite} / {category}",
            "type": suite,
            "config": category,
            "split": "report",
            "revision": revision,
        },
        "metrics": [
            {
                "type": "accuracy",
                "name": "accuracy",
                "value": round(score.value, 4),
                "args": {"n": score.n, "stderr": round(score.stderr, 4)},
            }
        ],
    }


def _link(value: str) -> str:
    """A web address or the name of a file beside the card."""
    return value if _HTTPS.fullmatch(value) else token(value)
