"""Published weights of the pLM.

    config, params, unused = load_esm2("facebook/esm2_t33_650M_UR50D")
    features = ProteinLanguageModel(config).apply({"params": params}, tokens, chain_segment, sequence_mask)

In a config document `config.encoder.plm.pretrained` says which weights a run starts from.
"""

from bihf_jax.pretrained.esm2 import ESM2, esm2_config, load_esm2, save_esm2, with_pretrained_plm
from bihf_jax.pretrained.hugging_face import save_hugging_face
from bihf_jax.pretrained.tensors import PretrainedError

__all__ = [
    "ESM2",
    "PretrainedError",
    "esm2_config",
    "load_esm2",
    "save_esm2",
    "save_hugging_face",
    "with_pretrained_plm",
]
