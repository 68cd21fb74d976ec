"""Manifest, files and checks of an index folder: written, opened, copied from a store, verified byte by byte."""
