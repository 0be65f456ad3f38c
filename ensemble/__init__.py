"""Towers to answers: release, merlin-systems graph, Triton repository, server, client and benchmark."""
