"""Grids of runs that share what they have in common: `courier experiment`."""
