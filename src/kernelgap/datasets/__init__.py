"""Data sets: the XOR distribution with its planted network, random teachers, digits, MNIST.

`iid_inputs` and `sphere` draw inputs without labels.
"""

from kernelgap.datasets.dataset import Dataset
from kernelgap.datasets.handwritten import Split as Split
from kernelgap.datasets.handwritten import digits, mnist
from kernelgap.datasets.moments import Distribution as Distribution
from kernelgap.datasets.moments import even_moments, iid_inputs, moment
from kernelgap.datasets.spherical import sphere
from kernelgap.datasets.teachers import Inputs as Inputs
from kernelgap.datasets.teachers import planted_teacher, teacher
from kernelgap.datasets.xor import Noise as Noise
from kernelgap.datasets.xor import Signal as Signal
from kernelgap.datasets.xor import planted_xor, xor_noise

__all__ = [
    "Dataset",
    "digits",
    "even_moments",
    "iid_inputs",
    "mnist",
    "moment",
    "planted_teacher",
    "planted_xor",
    "sphere",
    "teacher",
    "xor_noise",
]
