"""Columns that say when."""
