"""Benchmarks: each is run as `python -m benchmarks.FOLDER.NAME`, from the root of the project."""
