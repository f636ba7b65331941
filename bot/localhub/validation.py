"""What the Hub refuses in a card's front matter, as `/api/validate-yaml` tells it.

Only licences and languages: the fields of ours that have closed lists there. A commit is not
refused for them, so that cards can lie here that were pushed before the Hub looked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_LICENCES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
    c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
    odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 grok2-community gemma unknown other
"""
LICENCES = tuple(_LICENCES.split())
"""As the Hub named them in May 2026 (github.com/huggingface/huggingface_hub/issues/4218)."""
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
"""The form of an ISO 639 code; the Hub knows the codes themselves, too."""


def complaints(card: Mapping[str, Any]) -> list[str]:
    """Why the Hub would refuse this front matter, a sentence for each field."""
    return [*_licences(card.get("license")), *_languages(card.get("language"))]


def _licences(value: object) -> Iterator[str]:
    if any(item not in LICENCES for item in _listed(value)):
        yield f'"license" must be one of [{", ".join(LICENCES)}]'


def _languages(value: object) -> Iterator[str]:
    if not all(isinstance(item, str) and _LANGUAGE.fullmatch(item) for item in _listed(value)):
        yield '"language" must be ISO 639 codes of two or three letters, "code" or "multilingual"'


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
