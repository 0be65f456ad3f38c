"""Raw tables to features: sources, splits, NVTabular graphs and the fitted query transform."""
