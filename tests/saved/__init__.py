"""Tests of saved."""
