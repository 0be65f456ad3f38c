"""Stage evaluate: the exported towers on the test rows."""
