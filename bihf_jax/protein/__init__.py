"""Structure files -> `Protein`, its geometry, neighbours and interface labels. Numpy only; imports no model."""

from bihf_jax.protein.frames import backbone_frames, edge_angles, euler_angles
from bihf_jax.protein.geometry import backbone, find_chain_breaks, torsions
from bihf_jax.protein.interface import INTERFACE_CUTOFF, interface_labels, split_partners
from bihf_jax.protein.neighbours import burial, nearest_neighbours
from bihf_jax.protein.protein import MAX_BYTES, ParseReport, Protein, StructureError

__all__ = [
    "INTERFACE_CUTOFF",
    "MAX_BYTES",
    "ParseReport",
    "Protein",
    "StructureError",
    "backbone",
    "backbone_frames",
    "burial",
    "edge_angles",
    "euler_angles",
    "find_chain_breaks",
    "interface_labels",
    "nearest_neighbours",
    "split_partners",
    "torsions",
]
