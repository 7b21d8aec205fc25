"""Certificates as files that anybody can check, without this library.

- `write_margin`: the largest margin of two-layer ReLU nets of any width lies between two bounds;
- `write_loss`: so does the least regularised loss;
- `write_svm`: so does the largest margin of a kernel machine;
- `write_eigenvalues`: so does the spectrum of a Gram matrix;
- `verify`: the bounds derived again from such a file alone.

A file holds the data, the claim and the numbers that prove it. `kernelgap verify FILE` checks it
in exact arithmetic by the module `proofs.checker`, a script of 300 lines that needs nothing but
Python: copy it to wherever you trust the interpreter.
"""

from kernelgap.proofs.margins import write_loss, write_margin
from kernelgap.proofs.matrices import write_eigenvalues, write_svm
from kernelgap.proofs.verdict import Verdict as Verdict, verify

__all__ = ["verify", "write_eigenvalues", "write_loss", "write_margin", "write_svm"]
