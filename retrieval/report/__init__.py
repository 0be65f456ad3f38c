"""Tables, charts and pages about runs."""
