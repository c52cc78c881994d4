"""Speech encoders, pooling, heads and whole models, one concept a file."""
