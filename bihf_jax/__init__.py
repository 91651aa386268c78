"""Protein representations from sequence and 3D structure, fused after every stage (arXiv 2504.04770)."""

from bihf_jax.version import __version__

__all__ = ["__version__"]
