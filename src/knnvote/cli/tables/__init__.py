"""Tables for people on stdout; what they show comes from elsewhere."""
