"""Memory that converting published weights takes, against the size of the file.

    python -m benchmarks.esm2_loading esm2_t33_650M_UR50D [--form fair-esm] [--folder DIR]

Writes a file of the published size with random weights into a temporary folder, in Hugging Face's form (safetensors) or
fair-esm's (`.pt`, which needs PyTorch to write), and loads it in a fresh process. Prints the file's size, the peak of
that process's resident memory above what it had after its imports, their ratio, and the seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bihf_jax.models import PLM_SIZES
from bihf_jax.models.config import PLMConfig

_CHILD = """
import json, sys, time
from bihf_jax.pretrained import load_esm2, esm2_config
import jax

def memory(name):
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(name + ":"))

jax.block_until_ready(jax.numpy.zeros(3))  # the backend's own memory
before, start = memory("VmRSS"), time.monotonic()
model = load_esm2(sys.argv[1])
seconds = time.monotonic() - start
print(json.dumps({"before": before, "peak": memory("VmHWM"), "seconds": seconds,
                  "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params))}))
"""


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=PLM_SIZES)
    parser.add_argument("--form", choices=("hugging-face", "fair-esm"), default="hugging-face")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write = write_fair_esm if arguments.form == "fair-esm" else write_hugging_face
        file = write(Path(folder), arguments.size)
        source = file if arguments.form == "fair-esm" else file.parent
        done = subprocess.run([sys.executable, "-c", _CHILD, source], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        seen, size = json.loads(done.stdout), file.stat().st_size
    peak = seen["peak"] - seen["before"]
    print(
        f"{arguments.size} {arguments.form}: {seen['parameters']:,} parameters, file {size / 1e9:.3f} GB; peak "
        f"{peak / 1e9:.3f} GB above the {seen['before'] / 1e9:.3f} GB after imports = {peak / size:.3f} x the file, "
        f"{seen['peak'] / size:.3f} x with them; {seen['seconds']:.1f} s"
    )


def random_state(config: PLMConfig) -> dict[str, np.ndarray]:
    """Tensors of the published shapes under fair-esm's names."""
    rng = np.random.default_rng(0)
    width, wide = config.width, config.feed_forward_width
    state = {
        "embed_tokens.weight": rng.standard_normal((33, width), np.float32),
        "lm_head.bias": np.zeros(33, np.float32),
    }

    def dense(name: str, inputs: int, outputs: int) -> None:
        state[f"{name}.weight"] = rng.standard_normal((outputs, inputs), np.float32)
        state[f"{name}.bias"] = np.zeros(outputs, np.float32)

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)

    for layer in (f"layers.{i}" for i in range(config.layers)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            dense(f"{layer}.self_attn.{name}", width, width)
        dense(f"{layer}.fc1", width, wide)
        dense(f"{layer}.fc2", wide, width)
        norm(f"{layer}.self_attn_layer_norm")
        norm(f"{layer}.final_layer_norm")
    norm("emb_layer_norm_after")
    dense("lm_head.dense", width, width)
    norm("lm_head.layer_norm")
    return state


_HUGGING_FACE = {
    "embed_tokens.": "embeddings.word_embeddings.",
    "emb_layer_norm_after.": "encoder.emb_layer_norm_after.",
    "self_attn_layer_norm.": "attention.LayerNorm.",
    "final_layer_norm.": "LayerNorm.",
    "self_attn.q_proj.": "attention.self.query.",
    "self_attn.k_proj.": "attention.self.key.",
    "self_attn.v_proj.": "attention.self.value.",
    "self_attn.out_proj.": "attention.output.dense.",
    "fc1.": "intermediate.dense.",
    "fc2.": "output.dense.",
    "layers.": "encoder.layer.",
}


def write_hugging_face(folder: Path, size: str) -> Path:
    """config.json and model.safetensors; returns the latter."""
    from safetensors.numpy import save_file

    config, state = PLM_SIZES[size], {}
    for name, values in random_state(config).items():
        if not name.startswith("lm_head."):
            for ours, theirs in _HUGGING_FACE.items():
                name = name.replace(ours, theirs)
            name = f"esm.{name}"
        state[name] = values
    settings = {"model_type": "esm", "position_embedding_type": "rotary", "layer_norm_eps": 1e-5, "token_dropout": True}
    settings |= {"vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "hidden_size": config.width}
    settings |= {"num_hidden_layers": config.layers, "num_attention_heads": config.heads}
    settings |= {"intermediate_size": config.feed_forward_width}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_fair_esm(folder: Path, size: str) -> Path:
    """The `.pt` file."""
    import torch

    config = PLM_SIZES[size]
    settings = {"encoder_layers": config.layers, "encoder_embed_dim": config.width}
    settings |= {"encoder_attention_heads": config.heads, "token_dropout": True}
    prefix = {False: "encoder.sentence_encoder.", True: "encoder."}
    state = {prefix[k.startswith("lm_head.")] + k: torch.from_numpy(v) for k, v in random_state(config).items()}
    path = folder / f"{size}.pt"
    torch.save({"cfg": {"model": argparse.Namespace(**settings)}, "model": state}, path)
    return path


if __name__ == "__main__":
    main()
