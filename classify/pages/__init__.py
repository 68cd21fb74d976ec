"""Single HTML files that open offline: what people would rather look at than read."""
