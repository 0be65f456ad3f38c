"""What the columns of unknown tables are."""
