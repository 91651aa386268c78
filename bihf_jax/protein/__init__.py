"""Structure files <-> `Protein`; its ligands, geometry, neighbours, interface labels and quality. Imports no model."""

from bihf_jax.protein.frames import backbone_frames, edge_angles, euler_angles
from bihf_jax.protein.geometry import backbone, find_chain_breaks, torsions
from bihf_jax.protein.interface import INTERFACE_CUTOFF, interface_labels, split_partners
from bihf_jax.protein.ligands import Ligands
from bihf_jax.protein.neighbours import burial, nearest_neighbours
from bihf_jax.protein.parsing import MAX_BYTES, FileContents, StructureError, file_contents
from bihf_jax.protein.protein import Protein
from bihf_jax.protein.quality import Quality, assess
from bihf_jax.protein.report import ParseReport
from bihf_jax.protein.residue_matching import ResidueMatch, match_residues
from bihf_jax.protein.select import take_residues
from bihf_jax.protein.superposition import Superposition, superpose
from bihf_jax.protein.writing import Written

__all__ = [
    "INTERFACE_CUTOFF",
    "MAX_BYTES",
    "FileContents",
    "Ligands",
    "ParseReport",
    "Protein",
    "Quality",
    "ResidueMatch",
    "StructureError",
    "Superposition",
    "Written",
    "assess",
    "backbone",
    "backbone_frames",
    "burial",
    "edge_angles",
    "euler_angles",
    "file_contents",
    "find_chain_breaks",
    "interface_labels",
    "match_residues",
    "nearest_neighbours",
    "split_partners",
    "superpose",
    "take_residues",
    "torsions",
]
