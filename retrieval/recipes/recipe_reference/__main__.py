"""Write the recipe reference: `python -m retrieval.recipes.recipe_reference docs`."""

import sys
from pathlib import Path

from retrieval.recipes.recipe_reference.pages import pages

for path, text in pages().items():
    page = Path(sys.argv[1]) / path
    page.parent.mkdir(exist_ok=True)
    page.write_text(text, encoding="utf-8")
