"""Serve a release, and ask the server."""
