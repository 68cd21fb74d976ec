"""Finished jobs against the truth and against each other, by what their outputs hold."""
