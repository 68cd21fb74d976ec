"""Steps between an image and its vector, one module each."""
