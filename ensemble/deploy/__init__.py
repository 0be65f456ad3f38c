"""Versions of a release, and how one becomes current in a running server."""
