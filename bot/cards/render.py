"""The template environment: ours alone, strict, and printing only what was escaped."""

from typing import Any

import jinja2

from bot.cards import escape, figures


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot.cards", "templates"),
        undefined=jinja2.StrictUndefined,
        finalize=escape.checked,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "repo": escape.show_repo,
        "bare": escape.show_bare,
        "bare_token": escape.show_bare_token,
        "path": escape.show_path,
        "token": escape.show_token,
        "label": escape.show_label,
        "sentence": escape.show_sentence,
        "commit": escape.show_commit,
        "digest": escape.show_digest,
        "contact": escape.show_contact,
        "literal": escape.python_literal,
        "fenced": escape.fenced,
        "listing": escape.listing,
        "score": figures.show_score,
        "score_percent": figures.show_score_percent,
        "points": figures.show_points,
        "range": figures.show_range,
        "change": figures.show_change,
        "estimate": figures.show_estimate,
        "signed": figures.show_signed,
        "number": figures.show_number,
        "threshold": figures.show_threshold,
        "float": figures.show_float,
        "percent": figures.show_percent,
        "weight": figures.show_weight,
    }
    return environment


_ENVIRONMENT = _environment()


def render(template: str, **values: Any) -> str:
    """Fill a template of this package.

    Raises TypeError when a value was not escaped, jinja2.UndefinedError when one is missing.
    """
    return _ENVIRONMENT.get_template(template).render(**values)
