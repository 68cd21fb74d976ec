"""Layouts of images in the columns of a file, one module each."""
