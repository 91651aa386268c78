"""Reads a structure that a stranger may have made, in a process of its own that can be killed: `uploads` starts it.

The first line of the standard input is JSON: the name of the file, the ids of the chains to read (null: all), limits.
The rest is the content. The standard output is JSON: the chains and their residues, and the ligands; or the error.
"""

import json
import sys
from collections.abc import Sequence

from bihf_jax.data.components import own_ligands
from bihf_jax.protein import Protein, StructureError
from bihf_jax.protein.parsing import split_ending

MEMORY = 4 * 2**30  # bytes of address space


def read_structure(data: bytes, name: str, chains: Sequence[str] | None, max_bytes: int) -> Protein:
    """The protein; a name without the ending of a structure file says nothing of the content, which then is text.

    Raises:
      StructureError: it cannot be read.
    """
    stem, ending = split_ending(name)
    if ending:
        return Protein.from_bytes(data, name=name, chains=chains, max_bytes=max_bytes)
    return Protein.from_text(data.decode("utf-8", "replace"), name=stem, chains=chains, max_bytes=max_bytes)


def main() -> None:
    """Reads the request and writes the answer."""
    request = json.loads(sys.stdin.buffer.readline())
    _limit_resources(request["seconds"])
    data = sys.stdin.buffer.read()
    try:
        protein = read_structure(data, request["name"], request["chains"], request["max_bytes"])
    except StructureError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{request['name']}: reading it takes more memory than is allowed"}
    else:
        residues = [int((protein.chain_index == chain).sum()) for chain in range(len(protein.chain_ids))]
        chains = list(zip(protein.chain_ids, residues, strict=True))
        answer = {"chains": chains, "ligands": own_ligands(protein)}
    sys.stdout.write(json.dumps(answer))


def _limit_resources(seconds: float) -> None:
    """Limits of memory and of processor time, where the system has them; the clock of `uploads` stands beside them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))


if __name__ == "__main__":
    main()
