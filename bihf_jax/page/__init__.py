"""HTML pages that work offline: one protein with its scores in 3D, and the list of a folder. No JAX, no network."""

from bihf_jax.page.folder import FailedInput, FolderEntry, FolderPage, folder_page
from bihf_jax.page.from_protein import page_of
from bihf_jax.page.structure import Residue, StructurePage, Track, Value, structure_page

__all__ = [
    "FailedInput",
    "FolderEntry",
    "FolderPage",
    "Residue",
    "StructurePage",
    "Track",
    "Value",
    "folder_page",
    "page_of",
    "structure_page",
]
