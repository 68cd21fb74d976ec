"""Single rows of a finished job and single images: why they were answered so, and which are worth a person's look."""
