"""affect.train."""
