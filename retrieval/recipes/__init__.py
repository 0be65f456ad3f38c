"""Recipes: what one may say, how it is read, and its reference in docs/."""
