"""affect.data."""
