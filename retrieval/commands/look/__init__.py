"""Look closer at data, runs and machines."""
