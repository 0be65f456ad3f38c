"""NVTabular operators: codes, lists, numbers and times."""
