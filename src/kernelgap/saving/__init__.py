"""What was computed, in one file and back: predictors, nets, certificates.

`save` writes a NumPy archive (`.npz`): every array under a readable name, and `kernelgap.json`,
which says what they make up. `numpy.load` reads the arrays without this library. Nothing is
pickled, in either direction: no file can run code. Both functions are also `kernelgap.save` and
`kernelgap.load`.
"""

from kernelgap.saving.store import load, save

__all__ = ["load", "save"]
