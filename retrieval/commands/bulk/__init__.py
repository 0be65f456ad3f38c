"""Answers and vectors in bulk."""
