"""What fills the figures and pictures of the pages."""
