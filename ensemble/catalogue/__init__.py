"""Changes of a release's items, without training."""
