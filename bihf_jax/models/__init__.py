"""Models: pLM, structure encoders, fusion, the fused encoder, heads.

Public names: the configs, `FusedEncoder` (with `EncoderOutput`) and `ResidueModel`.
"""

from bihf_jax.models.config import (
    FUSION_METHODS,
    PLM_SIZES,
    EncoderConfig,
    FusionConfig,
    GVPConfig,
    HeadConfig,
    MPNNConfig,
    PLMConfig,
    ProNetConfig,
    StructureConfig,
)
from bihf_jax.models.encoder import EncoderOutput, FusedEncoder
from bihf_jax.models.heads import ResidueHead, ResidueModel
from bihf_jax.models.plm import ProteinLanguageModel

__all__ = [
    "FUSION_METHODS",
    "PLM_SIZES",
    "EncoderConfig",
    "EncoderOutput",
    "FusedEncoder",
    "FusionConfig",
    "GVPConfig",
    "HeadConfig",
    "MPNNConfig",
    "PLMConfig",
    "ProNetConfig",
    "ProteinLanguageModel",
    "ResidueHead",
    "ResidueModel",
    "StructureConfig",
]
