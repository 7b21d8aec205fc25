"""Eigenvalues of Gram matrices, dense or by products, and of zonal kernels on the sphere."""
