"""What the pages know of a run: release, items, histories, and what is measured of them in the background."""
