"""Models: pLM, structure encoders, fusion, the fused encoder, heads.

Public names: the configs, `FusedEncoder` (with `EncoderOutput`), `TaskModel`, and `merge_lora` with its inverse.
"""

from bihf_jax.models.config import (
    FUSION_METHODS,
    PLM_SIZES,
    EncoderConfig,
    FusionConfig,
    GVPConfig,
    HeadConfig,
    LearningConfig,
    MPNNConfig,
    PLMConfig,
    ProNetConfig,
    StructureConfig,
)
from bihf_jax.models.encoder import EncoderOutput, FusedEncoder
from bihf_jax.models.heads import Head, TaskModel
from bihf_jax.models.lora import MergedLoRA, merge_lora, unmerge_lora
from bihf_jax.models.plm import ProteinLanguageModel

__all__ = [
    "FUSION_METHODS",
    "PLM_SIZES",
    "EncoderConfig",
    "EncoderOutput",
    "FusedEncoder",
    "FusionConfig",
    "GVPConfig",
    "Head",
    "HeadConfig",
    "LearningConfig",
    "MPNNConfig",
    "MergedLoRA",
    "PLMConfig",
    "ProNetConfig",
    "ProteinLanguageModel",
    "StructureConfig",
    "TaskModel",
    "merge_lora",
    "unmerge_lora",
]
