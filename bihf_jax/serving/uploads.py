"""What a browser sends: taken in within limits of size and time, and never as a path."""

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request

from bihf_jax.configuration import ConfigError
from bihf_jax.protein import Protein
from bihf_jax.serving.parse_worker import read_structure

_LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is taken, at most.

    Attributes:
      body_bytes: of a request's body.
      unpacked_bytes: of what a .gz file holds.
      upload_seconds: until the body is there.
      parse_seconds: for reading the structure in it.
      waiting: requests that wait for their turn.
    """

    body_bytes: int = 20_000_000
    unpacked_bytes: int = 100_000_000
    upload_seconds: float = 60.0
    parse_seconds: float = 30.0
    waiting: int = 8

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"{field.name} is {getattr(self, field.name)}; it must be more than 0")


class Contents(NamedTuple):
    """What an upload holds."""

    chains: list[tuple[str, int]]  # (id, residues) of each
    ligands: list[str]  # "STI:A:201", `components.own_ligands`


class UploadError(Exception):
    """A request that is refused: the status of the response, and what to tell the user."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, counted while it comes in; what the request says of its length is only a hint.

    Raises:
      UploadError: it is empty (400), too large (413), too slow (408), or was cut off (400).
    """
    too_large = UploadError(413, f"the file is larger than {limits.body_bytes / 1e6:g} MB; compress it, or cut it down")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError as error:
        raise UploadError(408, f"the file did not arrive within {limits.upload_seconds:g} s; send it again") from error
    except ClientDisconnect as error:
        raise UploadError(400, "the connection was closed before the file was whole") from error
    if not body:
        raise UploadError(400, "the file is empty")
    return bytes(body)


def file_name(text: str) -> str:
    """A name to show, made of what the browser says the file is called; nothing is opened by it."""
    last = re.split(r"[/\\]", text)[-1]
    shown = "".join(character if character.isprintable() else "_" for character in last).strip()
    return shown[-_LONGEST_NAME:] or "pasted"


def parse(data: bytes, name: str, chains: Sequence[str] | None, limits: Limits) -> Protein:
    """The structure of an upload. It was read in a process of its own first, so this cannot take long or crash.

    Raises:
      UploadError: as `contents_of`.
    """
    contents_of(data, name, chains, limits)
    return read_structure(data, name, chains, limits.unpacked_bytes)


def contents_of(data: bytes, name: str, chains: Sequence[str] | None, limits: Limits) -> Contents:
    """The chains and ligands of an upload, read in a process that is killed when its time is up.

    Args:
      data: the content of the file.
      name: of the file, `file_name`.
      chains: author ids of the chains to read; None: all.
      limits: of time and size.

    Raises:
      UploadError: it is no structure (400), or takes too long (408).
    """
    request = {"name": name, "chains": chains, "max_bytes": limits.unpacked_bytes, "seconds": limits.parse_seconds}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bihf_jax.serving.parse_worker"],
            input=json.dumps(request).encode() + b"\n" + data,
            capture_output=True,
            timeout=limits.parse_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UploadError(408, f"{name}: reading it takes longer than {limits.parse_seconds:g} s") from error
    if done.returncode:
        raise UploadError(400, f"{name}: reading it failed; the file is damaged in a way that was not expected")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise UploadError(400, answer["error"])
    return Contents([(chain, residues) for chain, residues in answer["chains"]], answer["ligands"])
