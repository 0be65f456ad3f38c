"""The request of a user: from a form, to an answer, explained and as code to copy."""
