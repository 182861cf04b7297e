"""Everything that is kept: the only package that knows SQL. It does not know models or pages."""

from storage.database import Store
from storage.records import (
    Card,
    Chat,
    ChatMessage,
    ChatVote,
    Item,
    Label,
    MetricRow,
    Project,
    Prompt,
    Response,
    Run,
)

__all__ = [
    "Card", "Chat", "ChatMessage", "ChatVote", "Item", "Label", "MetricRow", "Project", "Prompt", "Response", "Run",
    "Store",
]
