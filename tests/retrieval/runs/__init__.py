"""Tests of retrieval.runs."""
