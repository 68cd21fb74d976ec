"""Containers of rows, one module each."""
