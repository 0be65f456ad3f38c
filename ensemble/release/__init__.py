"""Releases: written, compared with the training side, signed and verified."""
