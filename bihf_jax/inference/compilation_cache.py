"""Compiled programs kept on disk, so that a second start needs not compile them again."""

import hashlib
import logging
import os
import platform
from pathlib import Path

import jax

_LOGGER = logging.getLogger(__name__)
_MIN_COMPILE_SECONDS = 0.3  # of a program that is kept; JAX's own default is 1


def use_compilation_cache() -> Path | None:
    """Turns JAX's persistent compilation cache on, unless it is on already (`JAX_COMPILATION_CACHE_DIR`).

    Returns:
      The folder in use; None where none can be made, which is logged and costs nothing but compile time.
    """
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    folder = cache_folder()
    try:
        # Whoever can write there can have this process run code, so it is the user's alone.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        _LOGGER.info("no compilation cache: %s; set JAX_COMPILATION_CACHE_DIR to a folder that can be written", error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    return folder


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/bihf_jax/compiled/...` (`~/.cache` where that is not set), a folder for each kind of CPU.

    Programs for a CPU use the instructions that it has, and a home directory may be shared by several kinds.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kind = hashlib.sha256(_cpu().encode()).hexdigest()[:12]
    return Path(home) / "bihf_jax" / "compiled" / f"{platform.machine() or 'cpu'}-{kind}"


def _cpu() -> str:
    """A text that is the same on CPUs with the same instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return f"{platform.system()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
