"""Tests of workflows.features."""
