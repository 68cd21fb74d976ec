"""Labelled images that are arrays."""
