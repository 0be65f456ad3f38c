"""Tests of models.towers."""
