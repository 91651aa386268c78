"""`Labelled`: the residues or proteins with a label, as metrics take them."""

from typing import NamedTuple

import numpy as np


class Labelled(NamedTuple):
    """n residues or proteins with a label. Labels and scores that are one number are [n], others [n, P] and [n, V]."""

    labels: np.ndarray  # float32
    scores: np.ndarray  # float32: probability of the class or of each class, or the values
    weights: np.ndarray  # [n] float32 sample weight
    groups: np.ndarray  # [n] int32 number of the group (complex, target), in the order of their sorted names
