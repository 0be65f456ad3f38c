"""Tests of ensemble.client."""
