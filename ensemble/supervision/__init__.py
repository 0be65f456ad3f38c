"""Keeps a server answering: what is watched, and how it is repaired."""
