"""Plain re-implementations, written from the documentation of what they check and sharing no code with it."""
