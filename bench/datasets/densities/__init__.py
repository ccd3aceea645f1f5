"""Densities of which everything is known: value, samples, entropy."""
