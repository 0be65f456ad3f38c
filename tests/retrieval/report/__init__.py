"""Tests of retrieval.report."""
