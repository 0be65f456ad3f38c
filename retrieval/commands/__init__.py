"""The commands of `retrieval`."""
