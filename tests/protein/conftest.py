"""Structures that several test files of this folder use."""

from pathlib import Path

import pytest

from tests.protein.synthetic import chain_of, pdb_text

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"


def sample_files() -> list[Path]:
    """Every structure file of the embedded sample."""
    return sorted(path for path in SAMPLE.rglob("*") if path.name.lower().endswith((".pdb.gz", ".cif.gz", ".ent.gz")))


@pytest.fixture
def write(tmp_path):
    """`write(text, name="made.pdb") -> Path` of a new file with this text or bytes."""

    def write_file(content: str | bytes, name: str = "made.pdb") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def complex_text() -> str:
    """Three chains: A and B touch, C is far from both."""
    a = chain_of("ACDEFGHIKLMNPQRSTVWY", "A", seed=1)
    b = chain_of("WYVTSRQPNMLKIHGFEDCA", "B", seed=2, first_number=101, shift=(5.0, 4.0, 3.0))
    c = chain_of("GGGSSSAAAG", "C", seed=3, first_number=-2, shift=(300.0, 0.0, 0.0))
    return pdb_text(a, b, c)
