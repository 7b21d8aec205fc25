"""Data sets, each a `Dataset` of inputs and labels, and inputs without labels.

- `xor_noise`: the XOR distribution, which `planted_xor`, a network of four units, classifies;
- `teacher`: labels of a random ReLU network, or of one from `planted_teacher`; its margin can be
  bounded from below, which `teacher_acceptance` of the inputs satisfy;
- `digits` and `mnist`: handwritten digits, from scikit-learn or from files of yours;
- `iid_inputs` and `sphere`: inputs without labels;
- `moment` and `even_moments`: moments of the coordinates of `iid_inputs`, and of any inputs.
"""

from kernelgap.datasets.dataset import Dataset
from kernelgap.datasets.handwritten import Split as Split, digits, mnist
from kernelgap.datasets.moments import (
    Distribution as Distribution,
    even_moments,
    iid_inputs,
    moment,
)
from kernelgap.datasets.spherical import sphere
from kernelgap.datasets.teachers import (
    Inputs as Inputs,
    Weights as Weights,
    planted_teacher,
    teacher,
    teacher_acceptance,
)
from kernelgap.datasets.xor import Noise as Noise, Signal as Signal, planted_xor, xor_noise

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
    "teacher_acceptance",
    "xor_noise",
]
