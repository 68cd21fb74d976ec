"""The command that serves; what it starts is `knnvote.serve`."""
