"""Data sets: the XOR distribution with its planted network, random teachers, real digits."""

from kernelgap.datasets.dataset import Dataset
from kernelgap.datasets.handwritten import digits
from kernelgap.datasets.spherical import sphere
from kernelgap.datasets.teachers import Inputs, Labels, planted_teacher, teacher
from kernelgap.datasets.xor import Noise, Signal, planted_xor, xor_noise

__all__ = [
    "Dataset",
    "Inputs",
    "Labels",
    "Noise",
    "Signal",
    "digits",
    "planted_teacher",
    "planted_xor",
    "sphere",
    "teacher",
    "xor_noise",
]
