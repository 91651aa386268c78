"""Trained models to give away: checkpoints without their run, and programs that run without this package."""

from bihf_jax.export.exporting import FORMATS, ExportError, export_model

__all__ = ["FORMATS", "ExportError", "export_model"]
