"""Labelled images to an index folder: build, store, open, verify."""
