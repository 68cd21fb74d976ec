"""Codes of 8 bits for stored vectors and queries, and the hot steps of a search over them, compiled where possible."""
