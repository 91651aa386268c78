"""Weights from the Hugging Face hub, kept in its cache (`HF_HOME`), from where they load without a network."""

import hashlib
import logging
import re
from pathlib import Path

from bihf_jax.pretrained.tensors import PretrainedError

_LOGGER = logging.getLogger(__name__)

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
_ABOUT = ("config.json", "vocab.txt")


def is_hub_id(source: str) -> bool:
    """Has `source` the form of a hub id, OWNER/NAME?"""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source) is not None


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder with config and weights of a model on the hub, safetensors where the model has them.

    What the cache has is not fetched again; without a network, or with HF_HUB_OFFLINE=1, the cache must have it all.

    Args:
      repo_id: e.g. "facebook/esm2_t6_8M_UR50D".
      revision: branch, tag or commit; None is the main branch.

    Raises:
      PretrainedError: `huggingface_hub` is not installed, the hub cannot be reached, or it has no such model.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HTTPError
    except ImportError as error:
        raise PretrainedError(
            f"{repo_id} is neither a file nor a folder here, and fetching it from the Hugging Face hub needs the "
            f"package huggingface_hub: pip install 'bihf_jax[hub]'; or give the folder with config.json and the weights"
        ) from error
    for weights in (SAFETENSORS, TORCH):
        try:
            folder = Path(
                huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=[*_ABOUT, *weights])
            )
        # The last two are not OSErrors in every version.
        except (OSError, ValueError, HTTPError, EntryNotFoundError) as error:
            raise PretrainedError(
                f"{repo_id}{f' at {revision}' if revision else ''} is neither a file nor a folder here, and the "
                f"Hugging Face hub and its cache {huggingface_hub.constants.HF_HUB_CACHE} did not give it "
                f"({type(error).__name__}: {error}). Check the id and the network; without one, copy the cache from a "
                f"machine that has the model and set HF_HUB_OFFLINE=1, or give the folder with config.json and weights"
            ) from error
        if any(path for pattern in weights for path in folder.glob(pattern)):
            break
    return folder


def verify(folder: Path) -> None:
    """Compares every file of a cached model with its checksum, which the cache names the file by.

    The hub's checksum of a large file is its SHA-256, of a small one git's SHA-1 of the content.

    Raises:
      PretrainedError: a file differs.
    """
    for path in sorted(folder.iterdir()):
        stored = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", stored.name):
            with stored.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        elif re.fullmatch("[0-9a-f]{40}", stored.name):
            content = stored.read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        else:
            _LOGGER.warning("%s: the cache keeps no checksum of it, so it is not compared", path)
            continue
        if found != stored.name:
            raise PretrainedError(
                f"{path} is damaged: its checksum is {found}, the hub's is {stored.name}; delete {stored} and load it "
                f"again"
            )
