"""Quality figures: what recipes reach on public data sets."""
