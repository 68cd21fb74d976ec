"""Groups of images that belong together, as those of one patient or film do: read, kept, and told of."""
