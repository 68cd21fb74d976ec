"""A job's files done on the nodes of a Ray cluster, from one machine up."""
