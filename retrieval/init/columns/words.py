"""What names of columns say that they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workflows.columns import Columns

WORDS: Final[Mapping[str, str]] = {
    Columns.User: "user users uid customer customers client visitor member account cust person people reviewer buyer "
    "shopper subscriber viewer listener reader session profile player student patient household author owner steam "
    "kunde kunden benutzer utilisateur cliente usuario",
    Columns.Item: "item items iid product products sku movie movies film films track tracks song songs article "
    "articles book books isbn asin video videos listing ad content offer game games app document doc news recipe "
    "recipes pid parent variant course courses job jobs restaurant artist artists business venue poi place hotel anime "
    "beer stock campaign artikel produkt produit producto articulo",
    Columns.Timestamp: "timestamp time datetime date ts created at when day unixtime datum zeit fecha",
    Columns.Rating: "rating ratings stars star score grade overall",
    Columns.Title: "title name label headline description bezeichnung titel titre titulo nombre",
    Columns.Event: "event action behavior behaviour interaction activity",
}
EVENTS: Final = {
    "view", "pageview", "pv", "impression", "click", "clicks", "cart", "carts", "addtocart", "fav", "favorite", "like",
    "play", "save", "share", "buy", "purchase", "order", "orders", "transaction", "checkout",
}  # fmt: skip
"""What kinds of events are called."""
OTHER_IDS: Final = {
    "order", "invoice", "transaction", "basket", "receipt", "row", "index", "line", "event", "log", "review", "rating",
    "store", "shop", "page", "rank", "step", "position", "pos",
}  # fmt: skip
"""What ids of neither users nor items are called after."""
NAMING_IDS: Final = ("id", "no", "nr", "number", "nummer", "key", "code", "uuid", "sku", "asin", "isbn")
_KNOWN: Final = {*OTHER_IDS, *WORDS[Columns.User].split(), *WORDS[Columns.Item].split()}


def name_score(column: str, role: str) -> int:
    """Return how well a name says that a column has a role: 0 not, then better and better."""
    parts = parts_of(column)
    if column.lower() == role or "".join(parts) == role.replace("_", ""):
        return 9
    wanted = WORDS[role].split()
    hits = [part for part in parts if part in wanted]
    if not hits:
        return 0
    is_id = role in (Columns.User, Columns.Item)
    named_id = any(part in NAMING_IDS for part in parts)
    alone = len(parts) == 1
    of_session = role == Columns.User and hits == ["session"]  # of a user, if another column says whose
    return 2 + 3 * alone + 2 * (named_id and is_id) - (len(parts) > 3) - of_session


def parts_of(column: str) -> list[str]:
    """Return the words of a column's name, in lower case; `visitorid` and `profilename` are two."""
    plain = re.sub(r":(token|float)(_seq)?$", "", column)  # RecBole's headers have types
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    return [word for part in re.split(r"[^a-z0-9]+", spaced.lower()) if part for word in _words(part)]


def _words(part: str) -> list[str]:
    ending = next((end for end in (*NAMING_IDS, "name") if part.removesuffix(end) in _KNOWN - {part}), "")
    return [part.removesuffix(ending), ending] if ending else [part]
