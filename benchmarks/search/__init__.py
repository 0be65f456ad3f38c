"""Item indexes and filters: recall and latency."""
