"""A run: its recipe, its stages and what they leave."""
