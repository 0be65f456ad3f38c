"""The served path: latency, throughput, and the heaviest requests."""
