"""The platform that a model is traced for. The same mathematics is written another way where a platform needs it:
attention (`attention.segment_attention`), products, and what is gathered and computed at edges (`graph`)."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("target_platform", default=None)


def target_platform() -> str:
    """ "cpu", "tpu", "gpu", ...: JAX's default backend, unless `compiling_for` says otherwise."""
    return _TARGET.get() or jax.default_backend()


def runs_here() -> bool:
    """Whether what is traced runs on this machine's own devices, so that it may ask for what they have."""
    return _TARGET.get() is None


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Traces models for another platform than the one at hand, to compile them ahead of time.

    JAX keeps what it traced by function: trace a function that was not traced for the other platform before.
    """
    token = _TARGET.set(platform)
    try:
        yield
    finally:
        _TARGET.reset(token)
