"""A job into a folder that holds outputs of another one: what follows from them, and what is kept of them."""
