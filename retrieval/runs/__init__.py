"""A run: its stages and what they leave."""
