"""Approximate indexes behind one interface."""
