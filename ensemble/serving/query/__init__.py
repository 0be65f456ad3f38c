"""From a request to its query vector."""
