"""Adaptive search: rungs from cheap to careful, tried on stored images and tuned."""
