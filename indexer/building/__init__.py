"""What a build has made so far, slice by slice, and how it goes on after a kill."""
