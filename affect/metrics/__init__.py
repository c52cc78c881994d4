"""affect.metrics."""
