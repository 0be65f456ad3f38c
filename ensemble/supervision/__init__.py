"""Supervision of a server: what is watched, and how it is repaired."""
