"""Trivial models beside which a network is shown: on functionals, on words, of numbers and of classes."""
