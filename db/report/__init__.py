"""Read-only reports: what `bot status`, `scores`, `soups`, `drafts` and `explain` show."""

from db.report.findings import (
    Comparison,
    Ingredient,
    Score,
    Soup,
    category_scores,
    rejections,
    soup_list,
)
from db.report.history import (
    DECISIONS,
    Event,
    PublicationLine,
    RequestLine,
    events_after,
    events_of,
    publication_list,
    request_line,
)
from db.report.standing import BaseLine, Status, Trouble, status

__all__ = [
    "DECISIONS",
    "BaseLine",
    "Comparison",
    "Event",
    "Ingredient",
    "PublicationLine",
    "RequestLine",
    "Score",
    "Soup",
    "Status",
    "Trouble",
    "category_scores",
    "events_after",
    "events_of",
    "publication_list",
    "rejections",
    "request_line",
    "soup_list",
    "status",
]
