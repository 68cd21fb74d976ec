"""Labels in files of their own, joined to inputs."""
