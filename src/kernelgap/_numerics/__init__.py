"""Numerical tools that several modules share; private to the library."""
