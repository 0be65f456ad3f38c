"""The tables that every source yields: stored, validated and split."""
