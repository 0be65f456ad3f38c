"""Tests of retrieval.commands."""
