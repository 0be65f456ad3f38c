"""What each page shows, as values that a template writes."""
