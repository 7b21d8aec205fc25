"""Gram matrices and products for any n: by panels, on disk, over devices, matrix-free."""
