"""The view of an item: what it is, what is near it, who is answered with it, and the items that nobody gets."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.exposure import TOP_K
from retrieval.explore.request.form import Fields
from retrieval.explore.views.timeline import timeline
from retrieval.explore.views.user import in_words

NEAREST, USERS_SHOWN, ITEMS_SHOWN = 12, 20, 30


def item_page(explored: Explored, fields: Fields) -> dict[str, Any]:
    """Return what the page shows of the item that its address names, or of all items."""
    text = fields.get("q", "").strip()
    page: dict[str, Any] = {"found": explored.items.find(text) if text else [], "ready": explored.exposure.ready}
    page["row"] = row = explored.items.row_of_text(fields.get("item", ""))
    page["top_k"], page["asked"] = TOP_K, len(explored.exposure.rows)
    if row >= 0:
        page.update(_about(explored, row))
    elif page["ready"]:
        page.update(_everything(explored))
    return page


def _about(explored: Explored, row: int) -> dict[str, Any]:
    seconds = np.asarray(explored.history_seconds)[np.asarray(explored.history_items) == row]
    shown = {
        "item": explored.items.shown(row),
        "facts": in_words(explored.items.facts(row)),
        "count": len(seconds),
        "timeline": timeline(seconds, what="choices") if len(seconds) and explored.timed else "",
        "nearest": _nearest(explored, row),
    }
    if explored.exposure.ready:
        users = explored.exposure.users_of(row)
        shown["getting"] = len(users)
        shown["users"] = [
            (explored.user_ids[user], in_words(explored.attributes(user)), place) for user, place in users[:USERS_SHOWN]
        ]
    return shown


def _nearest(explored: Explored, row: int) -> list[tuple[int, float]]:
    """Return the rows of the items with the largest inner products, and these."""
    products = explored.items.vectors @ explored.items.vectors[row]
    products = np.where(explored.items.live, products, -np.inf)
    products[row] = -np.inf
    order = np.argsort(-products, kind="stable")[:NEAREST]
    return [(other, float(products[other])) for other in order.tolist() if np.isfinite(products[other])]


def _everything(explored: Explored) -> dict[str, Any]:
    counts, popularity = explored.exposure.counts(), explored.peers.popularity.astype(np.int64)
    never = np.flatnonzero((counts == 0) & explored.items.live)
    most = np.argsort(-counts, kind="stable")[:ITEMS_SHOWN]
    missed = never[np.argsort(-popularity[never], kind="stable")][:ITEMS_SHOWN]
    return {
        "never": len(never),
        "live_items": int(explored.items.live.sum()),
        "most": [(row, int(counts[row]), int(popularity[row])) for row in most.tolist() if counts[row]],
        "missed": [(row, int(popularity[row])) for row in missed.tolist()],
    }
