"""ESM-2 here and in Hugging Face's transformers (PyTorch): same weights, same tokens, outputs compared first.

    pip install torch transformers
    python -m benchmarks.esm2_speed                            # equal lengths, forward and forward with gradient
    python -m benchmarks.esm2_speed --structures FOLDER        # the real lengths of the chains in its structure files
    python -m benchmarks.esm2_speed --gpu                      # 650M in bfloat16, where there is a GPU

Prints Markdown. Contestants alternate in one process, and rounds in which another process was busy are discarded
(`benchmarks.timing`). Here the rows of a batch are dealt over simulated CPU devices (`--devices`, one thread each);
PyTorch has as many threads. The weights are random, which takes as long as published ones.
"""

import argparse
import dataclasses
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.structure_speed import check_equal
from bihf_jax.data import alphabet
from bihf_jax.data.plan import GridShape, Step, fill, plan_once
from bihf_jax.models import PLM_SIZES, ProteinLanguageModel
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import LAYER_NORM_EPSILON
from bihf_jax.pretrained import load_esm2
from bihf_jax.protein import Protein, StructureError

NAMES = {"8M": "esm2_t6_8M_UR50D", "35M": "esm2_t12_35M_UR50D", "650M": "esm2_t33_650M_UR50D"}
BATCH = 8
LENGTHS = (128, 256, 512)
# Of the real lengths: slots of a step here, and of a padded batch there.
ROW_LENGTH, ROWS = 1024, 8
STRUCTURE_FILES = (".pdb", ".cif", ".pdb.gz", ".cif.gz")
# Dense bfloat16 products of a GPU, FLOP/s, by what JAX calls it.
GPU_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "V100": 125e12}

Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Token rows as both sides take them.

    Attributes:
      tokens: [R, L] int32, <pad> where there is nothing.
      segment: [R, L] int32 number of the slot's chain in its row, 0 at padding.
    """

    tokens: np.ndarray
    segment: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """[R, L] bool: the slot holds a token."""
        return self.segment > 0

    @property
    def residues(self) -> int:
        return int((self.mask & (self.tokens != alphabet.CLS) & (self.tokens != alphabet.EOS)).sum())


def rows_of_chains(rows: Sequence[Sequence[np.ndarray]], length: int) -> Batch:
    """Rows of `length` slots that hold the tokens of chains one after the other."""
    tokens = np.full((len(rows), length), alphabet.PAD, np.int32)
    segment = np.zeros((len(rows), length), np.int32)
    for row, chains in enumerate(rows):
        start = 0
        for number, chain in enumerate(chains, 1):
            slots = slice(start, start + len(chain))
            tokens[row, slots], segment[row, slots] = chain, number
            start += len(chain)
    return Batch(tokens, segment)


def random_chain(rng: np.random.Generator, residues: int) -> np.ndarray:
    """<cls> residues <eos>."""
    return with_ends(rng.choice(alphabet.AMINO_ACID_TOKENS, residues))


def with_ends(tokens: np.ndarray) -> np.ndarray:
    """[n] -> [n + 2] int32, between <cls> and <eos>."""
    return np.concatenate([[alphabet.CLS], tokens, [alphabet.EOS]]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Contestants:
    """One model on both sides, in evaluation mode (neither drops anything).

    Attributes:
      config: sizes.
      params: of our model.
      peer: transformers' `EsmModel` with the same weights, attention by PyTorch's
        `scaled_dot_product_attention`.
    """

    config: PLMConfig
    params: Any
    peer: Any


def make_contestants(config: PLMConfig, seed: int = 0) -> Contestants:
    """Random weights, written by transformers and read by `load_esm2`."""
    import torch
    import transformers

    torch.manual_seed(seed)
    settings = transformers.EsmConfig(
        vocab_size=config.vocab,
        mask_token_id=alphabet.MASK,
        pad_token_id=alphabet.PAD,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward_width,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
        token_dropout=config.token_dropout,
        emb_layer_norm_before=False,
        layer_norm_eps=LAYER_NORM_EPSILON,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    peer = transformers.EsmModel(settings, add_pooling_layer=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        loaded = load_esm2(folder, head=False)
    return Contestants(loaded.config, jax.tree.map(jnp.asarray, loaded.params), peer)


def our_functions(
    plm: ProteinLanguageModel, params: Any, batch: Batch, devices: int
) -> tuple[Callable[[], jax.Array], Run]:
    """Features [R, L, C], and the gradient of the sum of their squares by all weights, each to its end.

    `params` are those of `on_devices`.
    """
    forward, gradient = our_programs(plm, devices)
    inputs = deal(batch, devices)
    return (
        lambda: jax.block_until_ready(forward(params, *inputs)).reshape(*batch.tokens.shape, -1),
        lambda: jax.block_until_ready(gradient(params, *inputs)),
    )


def on_devices(params: Any, devices: int) -> Any:
    """A copy of the parameters on each device, [devices, ...], where training has them, too."""
    copies = jax.pmap(lambda _, params: params, in_axes=(0, None), devices=jax.local_devices()[:devices])
    return copies(np.arange(devices), params)


def deal(batch: Batch, devices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment and mask, each [devices, R / devices, L]."""
    return tuple(x.reshape(devices, -1, x.shape[1]) for x in (batch.tokens, batch.segment, batch.mask))


@functools.cache
def our_programs(plm: ProteinLanguageModel, devices: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The programs of `our_functions` for rows that are dealt over devices."""

    def features(params: Any, tokens: jax.Array, segment: jax.Array, mask: jax.Array) -> jax.Array:
        return plm.apply({"params": params}, tokens, segment, mask)

    def loss(params: Any, tokens: jax.Array, segment: jax.Array, mask: jax.Array) -> jax.Array:
        squares = jnp.square(features(params, tokens, segment, mask).astype(jnp.float32))
        return jnp.sum(jnp.where(mask[..., None], squares, 0))

    def gradient(params: Any, *inputs: jax.Array) -> Any:
        return jax.lax.psum(jax.grad(loss)(params, *inputs), "device")

    spread = functools.partial(jax.pmap, axis_name="device", devices=jax.local_devices()[:devices])
    return spread(features), spread(gradient)


def peer_functions(peer: Any, batch: Batch) -> tuple[Run, Run]:
    """As `our_functions`; `peer` may be compiled. Padding is in no sum on either side."""
    import torch

    device = next(peer.parameters()).device
    tokens = torch.as_tensor(batch.tokens, dtype=torch.long, device=device)
    mask = torch.as_tensor(batch.mask, device=device)
    # As users do: without padding there is no mask, and PyTorch can choose its faster kernel.
    attention_mask = None if batch.mask.all() else mask.long()

    def finish(value: Any) -> Any:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return value

    def forward() -> Any:
        with torch.no_grad():
            return finish(peer(input_ids=tokens, attention_mask=attention_mask).last_hidden_state)

    def gradient() -> None:
        peer.zero_grad(set_to_none=True)
        features = peer(input_ids=tokens, attention_mask=attention_mask).last_hidden_state.float()
        torch.sum(torch.square(features) * mask[..., None]).backward()
        finish(None)

    return forward, gradient


def check_contestants(ours: Run, theirs: Run, mask: np.ndarray) -> float:
    """The largest difference of the outputs over the largest output; `check_equal` refuses what is not the same."""
    return check_equal(np.asarray(ours(), np.float32)[mask], theirs().float().cpu().numpy()[mask])


def equal_lengths(sizes: Sequence[str], lengths: Sequence[int], devices: int, rounds: int) -> None:
    """Prints the table of batches of 8 without padding, float32."""
    print("| model | L | | ours, residues/s | eager | compiled | ours / eager [10 %, 90 %] | ours / compiled |")
    print("|---|---:|---|---:|---:|---:|---|---|")
    rng = np.random.default_rng(0)
    for size in sizes:
        contestants = make_contestants(PLM_SIZES[NAMES[size]])
        plm, params = ProteinLanguageModel(contestants.config), on_devices(contestants.params, devices)
        for length in lengths:
            batch = rows_of_chains([[random_chain(rng, length - 2)] for _ in range(BATCH)], length)
            ours = our_functions(plm, params, batch, devices)
            eager = peer_functions(contestants.peer, batch)
            difference = check_contestants(ours[0], eager[0], batch.mask)
            print(f"{size}, L = {length}: outputs equal to {difference:.1e}", file=sys.stderr)
            compiled = compiled_functions(contestants.peer, batch)
            for kind, name in enumerate(("forward", "forward and gradient")):
                runs = {"ours": ours[kind], "eager": eager[kind]}
                if compiled is not None:
                    runs["compiled"] = compiled[kind]
                times = timing.alternate(runs, rounds, 4 * rounds)
                print(f"{times['discarded'][0]} rounds discarded", file=sys.stderr)
                print(equal_lengths_line(f"{size} | {length} | {name}", batch.residues, times), flush=True)


def equal_lengths_line(title: str, residues: int, times: dict[str, np.ndarray]) -> str:
    """A row of the table: median rates, and the median and spread of the paired ratios."""

    def rate(name: str) -> str:
        return f"{residues / np.median(times[name]):,.0f}" if name in times else "fails"

    def ratio(name: str) -> str:
        if name not in times:
            return ""
        median, low, high = np.percentile(times[name] / times["ours"], [50, 10, 90])
        return f"{median:.2f} [{low:.2f}, {high:.2f}]"

    cells = [rate("ours"), rate("eager"), rate("compiled"), ratio("eager"), ratio("compiled")]
    return f"| {title} | {' | '.join(cells)} |"


def compiled_functions(peer: Any, batch: Batch) -> tuple[Run, Run] | None:
    """`peer_functions` under torch.compile; None, with the reason on stderr, where that does not work."""
    import torch

    torch.compiler.reset()
    functions = peer_functions(torch.compile(peer), batch)
    try:
        for run in functions:
            run()
    except Exception as error:  # of many kinds: a missing compiler, an operation it cannot do
        print(f"torch.compile fails: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return functions


def read_chains(folder: Path) -> list[np.ndarray]:
    """Tokens of the distinct chains of all structure files below a folder; says on stderr what was left out."""
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith(STRUCTURE_FILES))
    sequences: dict[str, None] = {}
    unreadable = repeated = 0
    for path in paths:
        try:
            chains = [sequence for sequence in Protein.from_file(path).sequence() if sequence]
        except StructureError:
            unreadable += 1
            continue
        for sequence in chains:
            repeated += sequence in sequences
            sequences[sequence] = None
    print(
        f"{len(paths):,} files, {unreadable} without a protein or not readable; {len(sequences):,} distinct chains, "
        f"{repeated:,} that repeat one of them left out",
        file=sys.stderr,
    )
    if not sequences:
        raise SystemExit(f"no chain in the structure files below {folder}; give a folder with .pdb or .cif files")
    return [with_ends(alphabet.encode_sequence(sequence)) for sequence in sequences]


def padded_batches(chains: Sequence[np.ndarray], slots: int) -> Iterator[Batch]:
    """Chains in their order, as many a batch as fit into `slots` when padded to the longest; at least one."""
    waiting: list[np.ndarray] = []
    for chain in chains:
        longest = max(map(len, [*waiting, chain]))
        if waiting and longest * (len(waiting) + 1) > slots:
            yield rows_of_chains([[x] for x in waiting], max(map(len, waiting)))
            waiting = []
        waiting.append(chain)
    yield rows_of_chains([[x] for x in waiting], max(map(len, waiting)))


def packed_batches(chains: Sequence[np.ndarray], steps: Sequence[Step]) -> Iterator[Batch]:
    """The rows of a plan over the chains."""
    for step in steps:
        yield rows_of_chains([[chains[record] for record in row] for row in step.rows], step.length)


def real_lengths(
    chains: Sequence[np.ndarray], sizes: Sequence[str], devices: int, most_batches: int | None, seed: int = 0
) -> None:
    """Prints the table of packed rows against shuffled padded batches of the same number of slots, float32.

    Args:
      chains: tokens of each.
      sizes: of the model.
      devices: simulated, that share the rows.
      most_batches: after so many a side it ends; None is the whole set.
      seed: of the shuffle.
    """
    rng = np.random.default_rng(seed)
    chains = [chains[i] for i in rng.permutation(len(chains))]
    slots = np.asarray([len(chain) for chain in chains])
    steps = plan_once(slots, GridShape({ROW_LENGTH: ROWS}, graphs_per_row=ROW_LENGTH, neighbours=1), devices)
    packed = list(packed_batches(chains, [steps[i] for i in rng.permutation(len(steps))]))
    padded = list(padded_batches(chains, ROW_LENGTH * ROWS))
    padded_fill = slots.sum() / sum(batch.tokens.size for batch in padded)
    print(
        f"{len(chains):,} chains of {np.median(slots) - 2:,.0f} residues (median; longest {slots.max() - 2:,}); "
        f"packed rows are full to {fill(steps, slots):.3f}, padded batches to {padded_fill:.3f}.\n"
    )
    print("| model | | packed, residues/s | padded | ratio [10 %, 90 %] |")
    print("|---|---|---:|---:|---|")
    for size in sizes:
        contestants = make_contestants(PLM_SIZES[NAMES[size]])
        plm, params = ProteinLanguageModel(contestants.config), on_devices(contestants.params, devices)
        check_packing(plm, params, contestants.peer, packed, padded[0], devices)
        for kind, name in enumerate(("forward", "forward and gradient")):
            ours = (functools.partial(_timed_functions, plm, params, devices, kind), packed)
            theirs = (lambda batch, kind=kind, peer=contestants.peer: peer_functions(peer, batch)[kind], padded)
            rates, discarded = alternate_batches(ours, theirs, most_batches)
            print(f"{size} {name}: {discarded} rounds discarded", file=sys.stderr)
            print(f"| {size} | {name} | {rates_line(*rates)} |", flush=True)


def _timed_functions(plm: ProteinLanguageModel, params: Any, devices: int, kind: int, batch: Batch) -> Run:
    return our_functions(plm, params, batch, devices)[kind]


def check_packing(
    plm: ProteinLanguageModel, params: Any, peer: Any, packed: Sequence[Batch], padded: Batch, devices: int
) -> None:
    """Each chain of a padded batch has there the features that it has in its packed row here."""
    wanted = {padded.tokens[row][padded.mask[row]].tobytes(): row for row in range(len(padded.tokens))}
    theirs = peer_functions(peer, padded)[0]().numpy()
    found, largest = 0, 0.0
    for batch in packed:
        rows = [(row, n) for row in range(len(batch.tokens)) for n in range(1, batch.segment[row].max() + 1)]
        here = {key: batch.tokens[row][batch.segment[row] == n].tobytes() for key in rows for row, n in [key]}
        if not wanted.keys() & set(here.values()):
            continue
        ours = np.asarray(our_functions(plm, params, batch, devices)[0]())
        for (row, n), content in here.items():
            if content in wanted:
                other = theirs[wanted[content]][padded.mask[wanted[content]]]
                largest = max(largest, check_equal(ours[row][batch.segment[row] == n], other))
                found += 1
    if found != len(wanted):
        raise RuntimeError(f"{found} of {len(wanted)} chains of the first padded batch were found in packed rows")
    print(f"{found} chains, packed and padded: outputs equal to {largest:.1e}", file=sys.stderr)


def alternate_batches(
    ours: tuple[Callable[[Batch], Run], Sequence[Batch]],
    theirs: tuple[Callable[[Batch], Run], Sequence[Batch]],
    most_batches: int | None,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], int]:
    """Times a batch here and a batch there in turns; rounds in which another process was busy are discarded.

    Returns:
      (our seconds, our residues, their seconds, their residues), each [rounds kept], and how many were discarded.

    Raises:
      RuntimeError: every round was disturbed.
    """
    for make, batches in (ours, theirs):
        for batch in {batch.tokens.shape: batch for batch in batches[:most_batches]}.values():
            if make is ours[0] or batch is batches[0]:
                make(batch)()  # compiles each shape here; there, one batch fills caches
    kept, discarded = [], 0
    for mine, other in list(zip(ours[1], theirs[1], strict=False))[:most_batches]:
        foreign, begin = timing.foreign_cpu_seconds(), time.perf_counter()
        seconds = []
        for make, batch in ((ours[0], mine), (theirs[0], other)):
            run = make(batch)
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        cores = (timing.foreign_cpu_seconds() - foreign) / (time.perf_counter() - begin)
        if cores > timing.MOST_FOREIGN_CORES:
            discarded += 1
        else:
            kept.append((seconds[0], mine.residues, seconds[1], other.residues))
    if not kept:
        raise RuntimeError(f"other processes were busy in all {discarded} rounds; measure on an idle machine")
    return tuple(np.asarray(kept).T), discarded


def rates_line(
    our_seconds: np.ndarray, our_residues: np.ndarray, their_seconds: np.ndarray, their_residues: np.ndarray
) -> str:
    """Rates over all rounds, their ratio, and its spread over resampled rounds (1,000 times)."""

    def rates(rounds: np.ndarray) -> np.ndarray:
        return np.asarray(
            [
                our_residues[rounds].sum() / our_seconds[rounds].sum(),
                their_residues[rounds].sum() / their_seconds[rounds].sum(),
            ]
        )

    rng, count = np.random.default_rng(0), len(our_seconds)
    mine, other = rates(np.arange(count))
    drawn = np.asarray([rates(rng.integers(count, size=count)) for _ in range(1000)])
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [10, 90])
    return f"{mine:,.0f} | {other:,.0f} | {mine / other:.2f} [{low:.2f}, {high:.2f}]"


def gpu(size: str, lengths: Sequence[int], rounds: int) -> None:
    """Prints the table of a large model in bfloat16 on one GPU, both sides there."""
    if jax.default_backend() != "gpu":
        print(f"skipped: JAX runs on {jax.default_backend()} here; --gpu needs a GPU and pip install 'jax[cuda12]'")
        return
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("JAX has a GPU and PyTorch has none; install PyTorch with CUDA to compare")
    kind = jax.local_devices()[0].device_kind
    peak = next((flops for name, flops in GPU_PEAKS.items() if name in kind), None)
    contestants = make_contestants(PLM_SIZES[NAMES[size]])
    plm, params = ProteinLanguageModel(contestants.config, dtype=jnp.bfloat16), on_devices(contestants.params, 1)
    contestants.peer.to("cuda", torch.bfloat16)
    print(f"{kind}, {size}, bfloat16; " + (f"peak {peak / 1e12:,.0f} TFLOP/s\n" if peak else "peak not known\n"))
    print("| L | | ours, tokens/s | share of the peak | Hugging Face | ratio [10 %, 90 %] |")
    print("|---:|---|---:|---:|---:|---|")
    rng = np.random.default_rng(0)
    for length in lengths:
        batch = rows_of_chains([[random_chain(rng, length - 2)] for _ in range(16384 // length)], length)
        ours = our_functions(plm, params, batch, devices=1)
        theirs = peer_functions(contestants.peer, batch)
        difference = relative_difference(ours[0](), theirs[0]())
        print(f"L = {length}: mean difference {difference:.1e} of the mean output (bfloat16)", file=sys.stderr)
        for name, index, factor in (("forward", 0, 1), ("forward and gradient", 1, 3)):
            times = timing.compare(ours[index], theirs[index], rounds)
            mine, other = (batch.tokens.size / np.median(x) for x in (times.ours, times.theirs))
            ratio, low, high = times.ratio
            share = f"{factor * flops_of_token(contestants.config, length) * mine / peak:.0%}" if peak else "?"
            print(
                f"| {length} | {name} | {mine:,.0f} | {share} | {other:,.0f} | {ratio:.2f} [{low:.2f}, {high:.2f}] |",
                flush=True,
            )


def relative_difference(ours: jax.Array, theirs: Any) -> float:
    """mean |a - b| / mean |b|.

    Raises:
      RuntimeError: above 5 %: no rounding of bfloat16, but another function.
    """
    mine, other = np.asarray(ours, np.float32), theirs.float().cpu().numpy()
    difference = float(np.abs(mine - other).mean() / np.abs(other).mean())
    if not difference <= 0.05:
        raise RuntimeError(f"the outputs differ by {difference:.1%} of the mean; allowed 5 % in bfloat16")
    return difference


def flops_of_token(config: PLMConfig, length: int) -> float:
    """FLOP of the products of the forward pass, by token of a chain that fills a row."""
    projections = 2 * config.width * (4 * config.width + 2 * config.feed_forward_width)
    return config.layers * (projections + 4 * length * config.width)


def main() -> None:
    """Parses arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8M,35M")
    parser.add_argument("--lengths", help=f"slots, default {','.join(map(str, LENGTHS))}, with --gpu 512,1024")
    parser.add_argument("--structures", type=Path, metavar="FOLDER", help="the chains of its files instead")
    parser.add_argument("--most-batches", type=int, help="of --structures, a side (default: all)")
    parser.add_argument("--gpu", action="store_true", help="650M in bfloat16 on a GPU instead")
    parser.add_argument("--devices", type=int, default=2, help="simulated CPU devices that share the rows")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    sizes = arguments.sizes.split(",")
    if unknown := set(sizes) - NAMES.keys():
        parser.error(f"--sizes has {', '.join(sorted(unknown))}; allowed: {', '.join(NAMES)}")
    if BATCH % arguments.devices:
        parser.error(f"--devices is {arguments.devices}; allowed: what divides {BATCH} rows")
    lengths = [int(value) for value in arguments.lengths.split(",")] if arguments.lengths else None
    if arguments.gpu:
        gpu("650M", lengths or (512, 1024), arguments.rounds)
        return
    import torch

    torch.set_num_threads(arguments.threads)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    if arguments.structures:
        real_lengths(read_chains(arguments.structures), sizes, arguments.devices, arguments.most_batches)
    else:
        equal_lengths(sizes, lengths or LENGTHS, arguments.devices, arguments.rounds)


if __name__ == "__main__":
    main()
