"""The README.md of what the bot publishes: values in, Markdown out.

Pure: no network, no files but our own templates, no clock, no torch. `escape` decides what of a
stranger may be printed, `figures` how numbers are rounded, `metadata` writes the front matter.
"""

from bot.cards.figures import Difference, Estimate, Score
from bot.cards.models import Ingredient, Licence, Source
from bot.cards.router import (
    Comparison,
    Preset,
    RouterCard,
    Sampling,
    Setting,
    render_router,
    router_metadata,
)
from bot.cards.soup import (
    Benchmark,
    CategoryRow,
    GateFigures,
    Rivals,
    SearchFigures,
    SelectionFigures,
    SoupCard,
    Usage,
    render_soup,
    soup_metadata,
)

__all__ = [
    "Benchmark",
    "CategoryRow",
    "Comparison",
    "Difference",
    "Estimate",
    "GateFigures",
    "Ingredient",
    "Licence",
    "Preset",
    "Rivals",
    "RouterCard",
    "Sampling",
    "Score",
    "SearchFigures",
    "SelectionFigures",
    "Setting",
    "SoupCard",
    "Source",
    "Usage",
    "render_router",
    "render_soup",
    "router_metadata",
    "soup_metadata",
]
