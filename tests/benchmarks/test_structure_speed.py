"""The contestants of `benchmarks.structure_speed` do the same work: networks here and on PyTorch Geometric."""

import jax
import numpy as np
import pytest

from benchmarks import structure_speed
from bihf_jax.models import GVPConfig, ProNetConfig
from tests.models.batches import pack, quick_jit, random_protein

GVP = {"scalar_width": 12, "vector_width": 4, "edge_scalar_width": 8, "neighbours": 6, "dropout": 0.0}
PRONET = {"width": 16, "neighbours": 6, "dropout": 0.0}


@pytest.mark.parametrize(
    "config",
    [GVPConfig(**GVP, message_gvps=message_gvps) for message_gvps in (1, 2, 3)]
    + [ProNetConfig(**PRONET, level=level) for level in ("aminoacid", "backbone", "allatom")],
    ids=["gvp-1", "gvp-2", "gvp-3", "pronet-aminoacid", "pronet-backbone", "pronet-allatom"],
)
def test_encoder_equals_pytorch_geometric(config):
    """Two packed rows and an edge list of the real edges alone give the same scalars to 1e-5 of the largest."""
    pytest.importorskip("torch_geometric", reason="parity needs PyTorch Geometric: pip install -e '.[parity]'")
    case = structure_speed.Case("small", config, layers=2)
    batch = pack([[random_protein(1), random_protein(2, (8,))], [random_protein(3, (7, 4))]], length=48)
    encoder = case.encoder()
    variables = encoder.init(jax.random.key(0), batch, method=structure_speed.encode)
    peer = structure_speed.make_peer(case, variables["params"], batch)
    mask = np.asarray(batch.structure_mask)
    ours = quick_jit(lambda variables: encoder.apply(variables, batch, method=structure_speed.encode))(variables)[mask]
    theirs = peer.network(*peer.inputs).detach().numpy()
    assert ours.shape == theirs.shape
    assert peer.edges > 50
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_pronet_on_pytorch_geometric_has_two_degrees():
    """Another number of spherical harmonics is refused, not computed with the functions of two."""
    pytest.importorskip("torch_geometric", reason="parity needs PyTorch Geometric: pip install -e '.[parity]'")
    from benchmarks.peers.pronet import ProNetNetwork

    with pytest.raises(ValueError, match="num_spherical is 3; allowed: 2"):
        ProNetNetwork(ProNetConfig(num_spherical=3), node_inputs=4, blocks=1)


def test_contestants_that_differ_are_refused():
    """A difference above the tolerance ends the benchmark with both figures."""
    with pytest.raises(RuntimeError, match=r"differ by 1\.0e-03 of the largest; allowed 1e-04"):
        structure_speed.check_equal(np.asarray([1.001, 0.5]), np.asarray([1.0, 0.5]))
