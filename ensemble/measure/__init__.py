"""What a running server does and how fast it does it."""
