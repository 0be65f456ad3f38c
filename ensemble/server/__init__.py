"""A Triton server: started, watched, repaired, stopped."""
