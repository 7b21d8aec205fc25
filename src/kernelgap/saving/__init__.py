"""Save and load predictors, networks and certificates; load results of studies.

`save` writes a NumPy archive (`.npz`): every array under a readable name, and `kernelgap.json`,
which describes how they belong together. `numpy.load` reads the arrays without this library.
Nothing is pickled in either direction: no file can run code. Users know both functions as
`kernelgap.save` and `kernelgap.load`.
"""

from kernelgap.saving.store import load, save

__all__ = ["load", "save"]
