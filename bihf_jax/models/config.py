"""Frozen configs of the models: every width, with what it costs. Values are checked where a config is made."""

import dataclasses
import itertools
import math
from typing import Any

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, MAX_NEIGHBOURS
from bihf_jax.data.labels import UNITS

FUSION_KINDS = ("none", "linear", "local", "global", "cross", "token")
FUSION_DIRECTIONS = ("both", "to_sequence", "to_structure")
FUSION_SCHEDULES = ("every_stage", "last_stage", "serial")
SIDES = ("sequence", "structure")
ATTENTION_KINDS = ("auto", "blockwise", "splash", "cudnn", "dense")
DTYPES = ("float32", "bfloat16")
ROTARY_DTYPES = ("float32", "float16")
REMAT_KEEPS = ("nothing", "products")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")  # the dense layers of a pLM block
PRONET_LEVELS = ("aminoacid", "backbone", "allatom")
POOLINGS = ("mean", "attention")
MAX_SPHERICAL = 7  # of `ProNetConfig`: what the basis functions are exact for in float32


def _check(name: str, value: object, valid: bool, allowed: str, fix: str) -> None:
    """Raises ValueError naming the field, its value, what is allowed and the fix, unless `valid`."""
    if not valid:
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}. {fix}")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _check(f"{type(config).__name__}.{name}", value, value >= 1, "1 or more", f"Set {name} to a positive integer.")


def _check_rates(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        fix = f"Set {name} to the share of values to drop; 0 drops none."
        _check(f"{type(config).__name__}.{name}", value, 0.0 <= value < 1.0, "0 <= rate < 1", fix)


# Mode of `LearningConfig` -> the other settings that it reads.
LEARNING_MODES = {
    "full": ("rate_multiplier", "layer_decay"),
    "lora": ("rate_multiplier", "layer_decay", "rank", "alpha", "targets"),
    "frozen": (),
}


@dataclasses.dataclass(frozen=True)
class LearningConfig:
    """What of the pLM learns, and how fast.

    Attributes:
      mode: "full": all of it. "frozen": nothing; its weights have no gradient and no optimizer state, and are kept in
        the compute type. Gradients still pass through the blocks to what was exchanged before them. "lora" (Hu et al.
        2021): its weights are frozen like that, and an update of low rank learns beside each layer of `targets`.
      rate_multiplier: "full" and "lora": the pLM's learning rate over that of the rest of the model.
      layer_decay: "full" and "lora": block l of L, counted from 1, learns at layer_decay^(L - l) times that rate, the
        token embedding at layer_decay^L; 0.8 to 0.95 where it is used.
      rank: "lora": rank of the updates; their parameters, memory and time are proportional to it.
      alpha: "lora": the updates are multiplied by alpha / rank.
      targets: "lora": which dense layers of every block, of `LORA_TARGETS`.
    """

    mode: str = "full"
    rate_multiplier: float = 1.0
    layer_decay: float = 1.0
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        modes = ", ".join(LEARNING_MODES)
        _check("LearningConfig.mode", self.mode, self.mode in LEARNING_MODES, modes, "Choose one.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "mode" and field.name not in LEARNING_MODES[self.mode]:
                readers = " or ".join(mode for mode, names in LEARNING_MODES.items() if field.name in names)
                allowed = f"{field.default!r}, as mode {self.mode!r} does not read it"
                fix = f"Leave it out, or set mode to {readers}."
                _check(f"LearningConfig.{field.name}", value, value == field.default, allowed, fix)
        fix = 'With mode "frozen" nothing of the pLM learns.'
        valid = 0 < self.rate_multiplier < math.inf
        _check("LearningConfig.rate_multiplier", self.rate_multiplier, valid, "more than 0", fix)
        valid = 0 < self.layer_decay <= 1
        _check("LearningConfig.layer_decay", self.layer_decay, valid, "0 < layer_decay <= 1", "1 is no decay.")
        _check_positive(self, "rank")
        _check("LearningConfig.alpha", self.alpha, 0 < self.alpha < math.inf, "more than 0", "2 x rank is usual.")
        valid = 0 < len(self.targets) == len({*self.targets} & {*LORA_TARGETS})
        fix = "Name one or more, each once."
        _check("LearningConfig.targets", self.targets, valid, ", ".join(LORA_TARGETS), fix)

    @property
    def freezes(self) -> bool:
        """Whether the pLM's own weights stay as they are."""
        return self.mode != "full"

    @property
    def adapted(self) -> tuple[str, ...]:
        """The dense layers that have an update of low rank."""
        return self.targets if self.mode == "lora" else ()


@dataclasses.dataclass(frozen=True)
class PLMConfig:
    """ESM-2 (Lin et al. 2023). Time and memory grow with layers x width^2 x slots; `PLM_SIZES` has the published ones.

    Attributes:
      layers: Transformer blocks.
      width: Channels of the residual stream; the feed-forward layer has 4 times as many.
      heads: Attention heads; `width / heads` channels each, an even number (rotary embedding turns pairs).
      vocab: Tokens, 33 in every published checkpoint.
      token_dropout: Zero the embedding of <mask> and rescale the others, as the published weights expect.
      rotary_dtype: "float32", or "float16": the rotary frequencies are rounded to it. Weights that were trained in half
        precision were trained with rounded ones, and a file with such frequencies sets it.
      trained_length: Residues of the longest chain that the pLM has seen whole in its own training. Of a longer one it
        sees overlapping windows of that length, and their mean is taken (`models.windows`), which takes its time twice.
        A larger number has it go on to positions that it has not learned; the published models' is 1,022.
      dropout: Share of each block's update that is dropped in training; the published models used 0.
      remat: Recompute each block in the backward pass: about a third more time, activations of one block only.
      remat_keeps: With `remat`, what is kept of a block beside its input: "nothing", or "products", the results of its
        dense layers (12 x width numbers a slot), so that attention, norms and GELU alone are computed again.
      scan: Run the blocks of a stage as a loop of the compiled program. Compiling takes the time of one block a stage,
        not of all; the parameters are the same, and a step copies them once.
      pretrained: Where a new run takes the pLM's weights from, as in `pretrained.load_esm2`; "" is random ones. In a
        config document it also stands for the sizes.
      learning: What of it learns, and how fast.
    """

    layers: int = 6
    width: int = 320
    heads: int = 20
    vocab: int = len(alphabet.TOKENS)
    token_dropout: bool = True
    rotary_dtype: str = "float32"
    trained_length: int = 1022
    dropout: float = 0.0
    remat: bool = False
    remat_keeps: str = "nothing"
    scan: bool = False
    pretrained: str = ""
    learning: LearningConfig = dataclasses.field(default_factory=LearningConfig)

    def __post_init__(self) -> None:
        _check_positive(self, "layers", "width", "heads", "trained_length")
        _check_rates(self, "dropout")
        _check(
            "PLMConfig.width",
            self.width,
            self.width % (2 * self.heads) == 0,
            f"multiples of 2 x heads = {2 * self.heads}",
            "Change width or heads: every head needs an even number of channels.",
        )
        allowed = ", ".join(ROTARY_DTYPES)
        _check("PLMConfig.rotary_dtype", self.rotary_dtype, self.rotary_dtype in ROTARY_DTYPES, allowed, "Choose one.")
        allowed = ", ".join(REMAT_KEEPS) if self.remat else "nothing, as remat is off"
        valid = self.remat_keeps in REMAT_KEEPS and (self.remat or self.remat_keeps == "nothing")
        _check("PLMConfig.remat_keeps", self.remat_keeps, valid, allowed, "Choose one, with remat.")
        tokens = len(alphabet.TOKENS)
        _check(
            "PLMConfig.vocab", self.vocab, self.vocab >= tokens, f"{tokens} or more", "Set it to len(alphabet.TOKENS)."
        )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def feed_forward_width(self) -> int:
        return 4 * self.width

    @property
    def architecture(self) -> dict[str, Any]:
        """The settings that belong to the weights, and are the same wherever they are used; the others are a run's."""
        names = ("layers", "width", "heads", "vocab", "token_dropout", "rotary_dtype")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def named(cls, name: str, **changes: object) -> "PLMConfig":
        """The config of a published size, e.g. `PLMConfig.named("esm2_t6_8M_UR50D", remat=True)`."""
        _check("pLM size", name, name in PLM_SIZES, ", ".join(PLM_SIZES), "Use one of these names.")
        return dataclasses.replace(PLM_SIZES[name], **changes)


# Layers, width and heads of the published checkpoints; the name says the number of parameters.
PLM_SIZES: dict[str, PLMConfig] = {
    "esm2_t6_8M_UR50D": PLMConfig(layers=6, width=320, heads=20),
    "esm2_t12_35M_UR50D": PLMConfig(layers=12, width=480, heads=20),
    "esm2_t30_150M_UR50D": PLMConfig(layers=30, width=640, heads=20),
    "esm2_t33_650M_UR50D": PLMConfig(layers=33, width=1280, heads=20),
    "esm2_t36_3B_UR50D": PLMConfig(layers=36, width=2560, heads=40),
    "esm2_t48_15B_UR50D": PLMConfig(layers=48, width=5120, heads=40),
}


@dataclasses.dataclass(frozen=True)
class StructureConfig:
    """What every structure encoder can be told; the config of each adds its own settings and its `name`.

    Attributes:
      name: Key in `structure.STRUCTURE_ENCODERS`. A subclass fixes it, and no one else sets it.
      neighbours: The nearest so many of the batch's neighbours are used. Time is proportional.
      radius: Å; of those, only residues whose CA is at most so far are neighbours. None: however far.
      sequence_neighbours: Residues up to so many places away along the chain are neighbours too, however far: so many
        more edge slots in each direction.
      layers_per_stage: Graph layers before each fusion.
      residue_type: Give the structure side the residue type (from the token) of a node.
      ligands: The atoms of ligands are nodes, too, with their elements and bonds. Without, they are as if they were not
        in the records.
      dropout: Share of each update that is dropped in training.
      remat: Recompute each layer in the backward pass, so that the edges of one layer only are in memory.
    """

    name: str = dataclasses.field(default="", init=False)
    neighbours: int = 24
    radius: float | None = None
    sequence_neighbours: int = 0
    layers_per_stage: int = 1
    residue_type: bool = True
    ligands: bool = False
    dropout: float = 0.1
    remat: bool = False

    def __post_init__(self) -> None:
        _check_positive(self, "neighbours", "layers_per_stage")
        _check_rates(self, "dropout")
        allowed = f"1 to {MAX_NEIGHBOURS} (what a record holds)"
        self._check("neighbours", self.neighbours <= MAX_NEIGHBOURS, allowed, "Use fewer neighbours.")
        self._check("radius", self.radius is None or self.radius > 0, "more than 0 Å, or None", "10 is ProNet's.")
        self._check("sequence_neighbours", self.sequence_neighbours >= 0, "0 or more", "0 adds none.")

    def _check(self, name: str, valid: bool, allowed: str, fix: str) -> None:
        _check(f"{type(self).__name__}.{name}", getattr(self, name), valid, allowed, fix)


@dataclasses.dataclass(frozen=True)
class DistanceConfig(StructureConfig):
    """Settings of encoders whose edges have distances in radial basis functions.

    Attributes:
      extra_distances: Pairs of `BACKBONE_ATOMS` (of the sender, of the receiver) whose distance an edge also has, e.g.
        (("N", "O"), ("CB", "CB")); 16 more edge inputs each.
      distance_cutoff: Å; the 16 radial basis functions are spread over 0 to this distance.
    """

    extra_distances: tuple[tuple[str, str], ...] = ()
    distance_cutoff: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("distance_cutoff", self.distance_cutoff > 0, "more than 0 Å", "20 is the paper's (GVP).")
        for pair in self.extra_distances:
            valid = len(pair) == 2 and all(atom in BACKBONE_ATOMS for atom in pair)
            allowed = f"pairs of {', '.join(BACKBONE_ATOMS)}"
            self._check("extra_distances", valid, allowed, 'Write it like (("CB", "CB"),).')


@dataclasses.dataclass(frozen=True)
class GVPConfig(DistanceConfig):
    """GVP-GNN (Jing et al. 2021). Time grows with neighbours x (scalar_width + 3 vector_width), and with messages.

    The paper uses 30 neighbours. Dropout drops scalars, and vectors as a whole.

    Attributes:
      scalar_width: Scalar (invariant) channels of a node.
      vector_width: Vector (equivariant) channels of a node, 3 numbers each.
      edge_scalar_width: Scalar channels of an edge.
      edge_vector_width: Vector channels of an edge.
      message_gvps: GVPs in the message function, 1 to 3. The paper uses 3; with 1 or 2 no product of width
        scalar_width x scalar_width is left at the edges, so they take about half the time.
    """

    name: str = dataclasses.field(default="gvp", init=False)
    scalar_width: int = 96
    vector_width: int = 16
    edge_scalar_width: int = 32
    edge_vector_width: int = 1
    message_gvps: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "scalar_width", "vector_width", "edge_scalar_width", "edge_vector_width")
        self._check("message_gvps", 1 <= self.message_gvps <= 3, "1, 2, 3", "Choose one of them.")


@dataclasses.dataclass(frozen=True)
class MPNNConfig(DistanceConfig):
    """A plain message-passing network on distances: the reference to read first, not the one to win with.

    Attributes:
      width: Channels of a node and of a message.
    """

    name: str = dataclasses.field(default="mpnn", init=False)
    width: int = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "width")


@dataclasses.dataclass(frozen=True)
class ProNetConfig(StructureConfig):
    """ProNet (Wang et al. 2023). Time grows with neighbours x width.

    The paper has width 128, 4 blocks, a radius of 10 Å with at most 32 neighbours, and these numbers of functions and
    layers. Its augmentations, off here, are active in training only; the values in brackets are the published ones.

    Attributes:
      level: "aminoacid" (edges from CAs: distance, theta, phi and the torsion tau), "backbone" (Euler angles between
        the backbone frames for tau, and phi, psi and omega of each node) or "allatom" (chi1-4 too).
      width: Channels of a node and of a message.
      num_radial: Bessel functions of the distance for each degree.
      num_spherical: Degrees of the spherical harmonics of the direction and of the angles, 1 to 7.
      merge_layers: Hidden layers that merge the three messages; one fewer follow.
      residue_masking: Share of the residue types that is hidden from this side (0.1 to 0.2), beside what
        `EncoderConfig.residue_masking` hides from both.
      coordinate_noise: Å, standard deviation of a shift of each residue as a whole, clipped at 3 of them (0.1).
      feature_noise: Standard deviation of noise on the nodes before each block, clipped at 4 of them (0.025).
      angle_noise: Radians, standard deviation of noise on the Euler angles, clipped at 4 of them (0.025).
    """

    name: str = dataclasses.field(default="pronet", init=False)
    radius: float | None = 10.0
    level: str = "backbone"
    width: int = 128
    num_radial: int = 6
    num_spherical: int = 2
    merge_layers: int = 3
    residue_masking: float = 0.0
    coordinate_noise: float = 0.0
    feature_noise: float = 0.0
    angle_noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "width", "num_radial", "num_spherical", "merge_layers")
        _check_rates(self, "residue_masking")
        self._check("level", self.level in PRONET_LEVELS, ", ".join(PRONET_LEVELS), "Choose one.")
        self._check("num_spherical", self.num_spherical <= MAX_SPHERICAL, f"1 to {MAX_SPHERICAL}", "The paper has 2.")
        self._check("radius", self.radius is not None, "more than 0 Å", "The radial functions end there; 10 is usual.")
        for name in ("coordinate_noise", "feature_noise", "angle_noise"):
            self._check(name, getattr(self, name) >= 0, "0 or more", "0 adds none.")


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """How the two sides exchange information (arXiv 2504.04770); `FUSION_METHODS` has the methods by name.

    Attributes:
      kind: "local" (a gate at each slot), "global" (self-attention over the slots of a protein), "linear" (the other
        side's features as they are), "cross" (self-attention over both sides' slots as separate tokens), "token" (one
        token a protein) or "none".
      direction: Which sides receive updates: "both", "to_sequence" or "to_structure".
      schedule: When: after "every_stage", after the "last_stage" only, or "serial", where the whole pLM runs first,
        then one exchange, then the whole structure side.
      output: Sides that make the representation, "both", "sequence" or "structure". A side that reaches neither the
        representation nor the other side is not run.
      width: Channels of the shared space both sides are projected into.
      heads: Attention heads of "global", "cross" and "token"; the others have none and do not read it.
      dropout: Share of the fused features that is dropped in training before they update the sides.
    """

    kind: str = "local"
    direction: str = "both"
    schedule: str = "every_stage"
    output: str = "both"
    width: int = 128
    heads: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", FUSION_KINDS),
            ("direction", FUSION_DIRECTIONS),
            ("schedule", FUSION_SCHEDULES),
            ("output", ("both", *SIDES)),
        ):
            value = getattr(self, name)
            _check(f"FusionConfig.{name}", value, value in allowed, ", ".join(allowed), "Choose one.")
        _check_positive(self, "width", "heads")
        _check_rates(self, "dropout")
        if self.kind in ("global", "cross", "token"):
            allowed = f"multiples of heads = {self.heads}"
            _check("FusionConfig.width", self.width, self.width % self.heads == 0, allowed, "Change width or heads.")
        if self.schedule == "serial" and self.kind != "none":
            fix = "The sequence side has finished when the exchange happens."
            _check("FusionConfig.direction", self.direction, self.direction == "to_structure", "to_structure", fix)
        if self.kind != "none" and self.output != "both":
            allowed = f"both, to_{self.output}"
            valid = self.direction in ("both", f"to_{self.output}")
            fix = f"With output {self.output!r} nothing reads the side that is updated."
            _check("FusionConfig.direction", self.direction, valid, allowed, fix)

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that are run: what the representation is made of, and what it hears."""
        heard = {"both": SIDES, "to_sequence": SIDES[1:], "to_structure": SIDES[:1]}[self.direction]
        if self.output == "both":
            return SIDES
        return tuple(side for side in SIDES if side == self.output or (self.kind != "none" and side in heard))

    @classmethod
    def named(cls, name: str, **changes: object) -> "FusionConfig":
        """The config of a method, e.g. `FusionConfig.named("serial", width=64)`."""
        _check("fusion method", name, name in FUSION_METHODS, ", ".join(FUSION_METHODS), "Use one of these names.")
        return dataclasses.replace(FUSION_METHODS[name], **changes)


# The two forms of the paper, then what they are compared with. Serial, parallel and cross as in Zhang et al. 2023
# (arXiv 2303.06275): the pLM's output as the graph's input; both outputs side by side; attention over both outputs.
FUSION_METHODS: dict[str, FusionConfig] = {
    "local": FusionConfig(kind="local"),
    "global": FusionConfig(kind="global"),
    "serial": FusionConfig(kind="linear", direction="to_structure", schedule="serial"),
    "parallel": FusionConfig(kind="none"),
    "cross": FusionConfig(kind="cross", schedule="last_stage"),
    "token": FusionConfig(kind="token"),
    "sequence_only": FusionConfig(kind="none", output="sequence"),
    "structure_only": FusionConfig(kind="none", output="structure"),
    "local_to_sequence": FusionConfig(kind="local", direction="to_sequence"),
    "local_to_structure": FusionConfig(kind="local", direction="to_structure"),
    "local_last_stage": FusionConfig(kind="local", schedule="last_stage"),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The fused encoder: a sequence side and a structure side, fused after each of `stages` stages.

    Attributes:
      plm: The sequence side. Its blocks are split into `stages` consecutive groups, as equal as possible.
      structure: The structure side: the config of any encoder of `structure.STRUCTURE_ENCODERS`.
      fusion: What the sides exchange, and when.
      stages: Parts that each side is run in, with an exchange after each; at most the number of pLM blocks.
      representation_width: Channels of the merged representation.
      residue_masking: Share of the residue types that is hidden in training, from both sides: their tokens are <mask>.
      dropout: Share of the merged representation that is dropped in training.
      dtype: Compute type, "float32" or "bfloat16" (half the memory on accelerators, slower on CPU). Softmax, norms,
        geometry and all parameters that learn are float32 in both.
      attention: "auto" is "blockwise" on CPU, "splash" on TPU, and on a GPU "cudnn" in bfloat16 and "dense" in float32
        (`attention.segment_attention`).
    """

    plm: PLMConfig = dataclasses.field(default_factory=PLMConfig)
    structure: StructureConfig = dataclasses.field(default_factory=GVPConfig)
    fusion: FusionConfig = dataclasses.field(default_factory=FusionConfig)
    stages: int = 3
    representation_width: int = 128
    residue_masking: float = 0.0
    dropout: float = 0.1
    dtype: str = "float32"
    attention: str = "auto"

    def __post_init__(self) -> None:
        _check_positive(self, "stages", "representation_width")
        _check_rates(self, "dropout", "residue_masking")
        _check(
            "EncoderConfig.stages",
            self.stages,
            self.stages <= self.plm.layers,
            f"1 to {self.plm.layers} (the pLM's layers)",
            "Use fewer stages or a deeper pLM.",
        )
        _check("EncoderConfig.dtype", self.dtype, self.dtype in DTYPES, ", ".join(DTYPES), "Choose one.")
        _check(
            "EncoderConfig.attention",
            self.attention,
            self.attention in ATTENTION_KINDS,
            ", ".join(ATTENTION_KINDS),
            "Choose one.",
        )

    @property
    def plm_layers_of_stage(self) -> tuple[range, ...]:
        """Indices of the pLM's blocks in each stage: consecutive, as equal as possible, the longer groups first."""
        size, longer = divmod(self.plm.layers, self.stages)
        starts = [stage * size + min(stage, longer) for stage in range(self.stages + 1)]
        return tuple(range(start, stop) for start, stop in itertools.pairwise(starts))

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that are run."""
        return self.fusion.sides

    @property
    def schedule(self) -> tuple[tuple[str, int], ...]:
        """What runs in which order: ("sequence" | "structure" | "exchange", stage from 0)."""
        stages, last = range(self.stages), self.stages - 1
        if self.fusion.schedule == "serial":
            order = [*(("sequence", stage) for stage in stages), ("exchange", 0)]
            order += [("structure", stage) for stage in stages]
        else:
            exchanges = stages if self.fusion.schedule == "every_stage" else (last,)
            order = []
            for stage in stages:
                order += [("sequence", stage), ("structure", stage)] + [("exchange", stage)] * (stage in exchanges)
        run = {*self.sides} if self.fusion.kind == "none" else {*self.sides, "exchange"}
        return tuple(part for part in order if part[0] in run)


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """A task's head: LayerNorm, for a protein the pooling of its residues, one hidden layer, the outputs.

    Attributes:
      unit: What has logits: each "residue", or each "protein". That of the task's labels.
      pooling: Of a protein: "mean" over its residues, or "attention", a learned weight for each residue, which says
        what mattered. Residue heads do not read it.
      num_outputs: Logits per residue or protein.
      hidden_width: Channels of the hidden layer.
      dropout: Share of the hidden layer that is dropped in training.
    """

    num_outputs: int = 1
    hidden_width: int = 128
    dropout: float = 0.1
    unit: str = "residue"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        for name, allowed in (("unit", UNITS), ("pooling", POOLINGS)):
            value = getattr(self, name)
            _check(f"HeadConfig.{name}", value, value in allowed, ", ".join(allowed), "Choose one.")
        _check_positive(self, "num_outputs", "hidden_width")
        _check_rates(self, "dropout")
