"""The user's own tables as a source."""
