"""Tests of ensemble.triton."""
