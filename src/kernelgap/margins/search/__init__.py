"""Find networks of large margin; whatever is found here is evaluated and proved elsewhere."""
