"""The two towers and their parts."""
