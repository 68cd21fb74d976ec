"""Parts of what a manifest records that need no manifest: weights of images, and how earlier ones are told."""
