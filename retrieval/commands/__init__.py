"""The commands of `retrieval`: a folder for each section of `retrieval --help`, a file for each command."""
