"""Tuning of adaptive search: its rungs, tried on stored images, and the ladder of them that is chosen."""
