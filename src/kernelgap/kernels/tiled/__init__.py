"""Gram matrices and products at any n: by panels, on disk, over devices, without the matrix."""
