"""affect.models."""
