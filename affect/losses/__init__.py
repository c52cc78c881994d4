"""affect.losses."""
