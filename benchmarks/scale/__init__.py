"""Stages at scale: seconds and memory."""
