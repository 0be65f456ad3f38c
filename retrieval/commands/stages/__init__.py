"""Stage by stage."""
