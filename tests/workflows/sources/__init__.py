"""Tests of workflows.sources."""
