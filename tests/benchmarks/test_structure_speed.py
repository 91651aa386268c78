"""The contestants of `benchmarks.structure_speed` do the same work: GVP-GNN here and on PyTorch Geometric."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import structure_speed
from bihf_jax.models import GVPConfig
from bihf_jax.models.features import geometric_features, residue_types
from bihf_jax.models.gvp import GVPEncoder
from tests.models.batches import pack, random_protein

CONFIG = GVPConfig(scalar_width=12, vector_width=4, edge_scalar_width=8, neighbours=6, dropout=0.0)


@pytest.mark.parametrize("message_gvps", [1, 2, 3])
def test_gvp_equals_pytorch_geometric(message_gvps):
    """Two packed rows and an edge list of the real edges alone give the same scalars to 1e-5 of the largest."""
    pytest.importorskip("torch_geometric", reason="parity needs PyTorch Geometric: pip install -e '.[parity]'")
    from benchmarks.peers.gvp import GVPNetwork

    config = dataclasses.replace(CONFIG, message_gvps=message_gvps)
    batch = pack([[random_protein(1), random_protein(2, (8,))], [random_protein(3, (7, 4))]], length=48)
    encoder = GVPEncoder(config, stages=2)
    variables = encoder.init(jax.random.key(0), batch, method=structure_speed.encode)
    features = geometric_features(batch, config)
    inputs = structure_speed.peer_inputs(features, residue_types(batch, config))
    network = GVPNetwork(config, *[(x[0].shape[-1], x[1].shape[-2]) for x in (inputs[0], inputs[2])], layers=2)
    network.load_flax(variables["params"])
    ours = encoder.apply(variables, batch, method=structure_speed.encode)[np.asarray(features.node_mask)]
    theirs = network(*inputs).detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_contestants_that_differ_are_refused():
    """A difference above the tolerance ends the benchmark with both figures."""
    with pytest.raises(RuntimeError, match=r"differ by 1\.0e-03 of the largest; allowed 1e-04"):
        structure_speed.check_equal(np.asarray([1.001, 0.5]), np.asarray([1.0, 0.5]))
