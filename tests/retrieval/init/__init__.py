"""Tests of retrieval.init."""
