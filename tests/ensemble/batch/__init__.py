"""Tests of ensemble.batch."""
