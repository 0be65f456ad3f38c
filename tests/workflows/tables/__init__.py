"""Tests of workflows.tables."""
