"""The command line: options in, calls to the library, its results and errors as text."""
