"""The batch job: files of images in, files of predictions out, and what a finished one says of itself."""
