"""Item vectors to an index: the kind that is named, or the one that measures best."""
