"""The files of a release, read by rules of our own before any library parses them."""
