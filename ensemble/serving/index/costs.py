"""Costs of searching: nanoseconds of one thread of a 2 GHz server core with AVX-512.

Only their ratios matter. Read them as attributes of this module, since tests change them.
"""

from __future__ import annotations

SCAN_NS = 0.37
"""Per float of an item: read and multiply, one after the other."""
GATHER_NS = 0.9
"""Per float of an item that is fetched by its number."""
MORE_NS = 0.1
"""Per float, for every further query that is compared with the same items."""
INDEX_NS = 20.0
"""Per item that the index compares (8-bit codes), its share of everything else included."""
CALL_NS = 60_000.0
"""Per query that the index is asked: the nearest lists, the exact scores of its candidates."""
LIST_NS = 150.0
"""Per list and query, to choose which to read."""
EXACT_NS = 2.0
"""Per float of a candidate whose exact score is computed."""
RANKED_NS = 60.0
"""Per candidate that is put in order."""
COUNT_NS = 20.0
"""Per item that a filter allows, to count those in every list, once."""
EXCLUDED_NS = 800.0
"""Per item that a row leaves out of what an index names: it is to name one more, and these are told apart."""
SHORT, ORDER_NS = 0.03, 10.0
"""Part of the rows for which an index names too few, measured at a million items: all items are compared then; and per
item, to find the best scores among them."""
MISSING = 0.1
"""Which part of the recall that the index may lack a filtered search plans to lose: the rest is for what the model of
the lists does not know."""
OFTEN = 0.5
"""An index that cannot be told where to look is asked only if this share of the items is allowed."""
MOST_COMPARED = 1 << 22
"""A filter that an engine cannot express is answered by comparing the items that it allows, up to so many of them."""
SMALL = 20_000
"""Catalogues up to this size are compared as a whole, whatever the filter allows: it takes microseconds."""
