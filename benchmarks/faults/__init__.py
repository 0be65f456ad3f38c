"""What clients, files and memory see when something breaks."""
