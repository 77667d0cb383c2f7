"""Experiments: the variants of a grid, each run with several seeds, share the stages in which they agree."""
