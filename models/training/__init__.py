"""Stage train: features to towers."""
