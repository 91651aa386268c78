"""Fixtures that several test folders use."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Many tests train the same small model, some in processes of their own: it is compiled once a session, whose test
# processes take the folder from the process that started them.
STARTED_BY_ANOTHER = "PYTEST_XDIST_WORKER" in os.environ
if not STARTED_BY_ANOTHER:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="bihf_jax_compiled_")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


# Linux gives a process 65,530 memory maps. A compiled program holds several, for as long as JAX keeps it.
MOST_MAPS = 30_000


@pytest.fixture(scope="module", autouse=True)
def _few_compiled_programs() -> Iterator[None]:
    """Lets go of compiled programs before a process has so many that the next one cannot be loaded: XLA would abort."""
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real structures beside the checkout; tests that need it skip where it is absent."""
    path = Path(os.environ.get("BIHF_SHARED_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"needs the real structures of {path} (set BIHF_SHARED_DATA to another place)")
    return path


@pytest.fixture(scope="session")
def sample_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the embedded sample, built by the command that a user would run."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("writing records needs TensorFlow: pip install -e '.[prep]'")
    out = tmp_path_factory.mktemp("sample") / "records"
    sample = REPOSITORY / "data_prep" / "sample"
    command = [sys.executable, "-m", "data_prep.build", "ppbs", "--structures", sample / "structures"]
    command += ["--complexes", sample / "complexes.csv", "--out", out, "--alignment", "biopython"]
    command += ["--split", "0.6,0.15,0.25"]
    done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes by their length: gzip data holds the second it was made in, and all processes must agree on names."""
    return f"{argname}_{len(val)}_bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a long file that starts last would keep one process busy and the others idle."""
    slow = {item.path: 0 for item in items}
    for item in items:
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: -slow[item.path])  # a stable sort: the order within a file stays


def pytest_sessionfinish() -> None:
    """Removes the compiled programs, when the last test process has ended."""
    if not STARTED_BY_ANOTHER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
