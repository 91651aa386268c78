"""Where compiled programs are kept."""

import stat
from pathlib import Path

import jax
import pytest

import bihf_jax
from bihf_jax.inference.compilation_cache import cache_folder, use_compilation_cache


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """As if nobody had named a cache; the tests' own one comes back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_that_the_user_named_stays():
    """`JAX_COMPILATION_CACHE_DIR`, which the tests set, is not overruled."""
    named = jax.config.jax_compilation_cache_dir
    assert use_compilation_cache() == Path(named)
    assert jax.config.jax_compilation_cache_dir == named


def test_otherwise_it_is_the_users_own(no_cache):
    """A folder in the user's cache that nobody else can write to, since programs in it are run."""
    folder = use_compilation_cache()
    assert folder == cache_folder()
    assert no_cache / "bihf_jax" in folder.parents
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_min_compile_time_secs < 1


def test_no_place_for_a_cache_is_no_error(no_cache):
    """Programs are compiled each time then."""
    no_cache.write_text("a file where the folder should be")
    assert use_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_it_can_be_turned_off(no_cache, run):
    bihf_jax.load(run, compilation_cache=False)
    assert jax.config.jax_compilation_cache_dir is None
    assert not no_cache.exists()
