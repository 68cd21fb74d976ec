"""Steps of decoding an image, each beside the library that does it."""
