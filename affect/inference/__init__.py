"""Predicting with trained models: what is opened, fed and written, whichever task they are of."""
