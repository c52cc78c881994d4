"""Frozen encoders that make features of raw media: speech, texts and images to frames [T, D] each.

Each has a `width` D, and `facts`: what its numbers depend on beside its weights, as JSON values.
"""
