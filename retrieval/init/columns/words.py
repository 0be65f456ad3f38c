"""What names of columns say that they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workflows.columns import Columns

WORDS: Final[Mapping[str, str]] = {
    Columns.User: "user users userid uid customer customers customerid client visitor visitorid member account cust "
    "person people reviewer reviewerid buyer shopper subscriber viewer listener reader session sessionid profile "
    "player student patient household author owner steamid kunde kunden kundennr kundennummer benutzer utilisateur "
    "cliente usuario",
    Columns.Item: "item items itemid iid product products productid sku movie movies movieid film films track tracks "
    "song songs article articles articleid book books isbn asin video videos listing ad content offer game games app "
    "document doc news recipe recipes pid parent variant course courses job jobs restaurant artist artists business "
    "venue poi place hotel anime beer stock stockcode campaign artikel artikelnr artikelnummer produkt produit "
    "producto articulo",
    Columns.Timestamp: "timestamp time datetime date ts created at when day unixtime datum zeit fecha",
    Columns.Rating: "rating ratings stars star score grade overall",
    Columns.Title: "title name label headline description bezeichnung titel titre titulo nombre",
    Columns.Event: "event action behavior behaviour interaction activity",
}
OTHER_IDS: Final = {
    "order", "invoice", "transaction", "basket", "receipt", "row", "index", "line", "event", "log", "review", "rating",
    "store", "shop", "page", "rank",
}  # fmt: skip
"""What ids of neither users nor items are called after."""
NAMING_IDS: Final = ("id", "no", "nr", "number", "key", "code", "uuid", "sku", "asin", "isbn")


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
    return 2 + 3 * alone + 2 * (named_id and is_id) - (len(parts) > 3)


def parts_of(column: str) -> list[str]:
    """Return the words of a column's name, in lower case."""
    plain = re.sub(r":(token|float)(_seq)?$", "", column)  # RecBole's headers have types
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    return [part for part in re.split(r"[^a-z0-9]+", spaced.lower()) if part]
