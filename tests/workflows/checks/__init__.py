"""Tests of workflows.checks."""
