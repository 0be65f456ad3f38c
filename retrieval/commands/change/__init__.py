"""Change what is served."""
