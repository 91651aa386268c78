"""Packaging of bihf_jax. Settings of the tools (ruff, pytest) are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "bihf_jax" / "version.py").read_text()).group(1)

setup(
    name="bihf_jax",
    version=VERSION,
    description="Protein representations from sequence and 3D structure, fused after every stage, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["bihf_jax*", "configs*", "data_prep*", "experiments*"]),
    package_data={"bihf_jax": ["export/standalone/*", "page/assets/*"], "data_prep": ["sample/**/*"]},
    install_requires=[
        "absl-py>=2.1",
        "biopython>=1.85",
        "filelock>=3.15",
        "flax>=0.12",
        "gemmi>=0.7.3",
        "google-crc32c>=1.6",
        "grain>=0.2.15",
        "jax>=0.10",
        "jraph>=0.0.6.dev0",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "protobuf>=5.29",
        "safetensors>=0.5",
        "scikit-learn>=1.6",
        "scipy>=1.14",
        "tqdm>=4.66",
    ],
    extras_require={
        # Embeddings in HDF5; npz needs nothing.
        "hdf5": ["h5py>=3.11"],
        # Fetching pretrained weights; files that are at hand need nothing.
        "hub": ["huggingface_hub>=1.0"],
        # Writing records through TensorFlow Datasets needs TensorFlow; reading them does not.
        "prep": ["tensorflow-datasets>=4.9.9", "tensorflow-cpu>=2.21", "importlib_resources>=6.4"],
        # Published data sets that come as HDF5 (React) or LMDB (ATOM3D).
        "formats": ["h5py>=3.12", "lmdb>=1.6"],
        # Ligands from sdf and mol2; those of pdbqt need Open Babel, too, whose licence is the GPL.
        "ligands": ["rdkit>=2025.3"],
        "pdbqt": ["openbabel-wheel>=3.1.1.22", "rdkit>=2025.3"],
        # The page that takes structures (experiments.serve).
        "serve": ["starlette>=1.0", "uvicorn>=0.35"],
        # tensorboardX only to read back the event files that we write.
        "test": [
            *("h5py>=3.11", "hypothesis>=6.120", "pytest>=8.3", "pytest-xdist>=3.6", "ruff>=0.14"),
            *("httpx2>=2.0", "starlette>=1.0", "tensorboardX>=2.6", "uvicorn>=0.35"),
        ],
        # Drives a Chromium that is on the machine (Debian: `chromium`), for the tests and pictures of the HTML pages.
        "browser": ["playwright>=1.50"],
        # Independent implementations that parity tests compare with; gigabytes on some machines.
        "parity": [
            *("fair-esm>=2.0", "huggingface_hub>=1.0", "tmtools>=0.3", "torch>=2.6", "torch_geometric>=2.6"),
            "transformers>=4.50",
        ],
        "cuda": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
    },
)
