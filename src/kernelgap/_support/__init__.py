"""Tools without mathematics that several modules share; private to the library."""
