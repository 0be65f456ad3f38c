"""Say who made a release."""
