"""The umbrella: recipe, command line, the run as a list of stages, and the report."""
