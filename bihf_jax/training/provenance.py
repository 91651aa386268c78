"""Which data a run was trained on: kept in its folder, so that what is made of the model later can say it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihf_jax.configuration import ConfigError, differences
from bihf_jax.training.model_folder import is_model_folder

if TYPE_CHECKING:
    from bihf_jax.data.records import RecordSet

RECORDS_FILE = "records.json"  # in the folder of a run


def keep_records(records: Sequence["RecordSet"], workdir: Path, *, first_host: bool) -> None:
    """Writes `WORKDIR/records.json`, or checks that the run there was trained on the same records.

    The file holds, for each split, the fingerprint of its index (`RecordSet.fingerprint`) and its counts; and the
    pocket that the records are of, where they are. No path is in it. A run that began without it goes on without it:
    which records it began with is not known.

    Args:
      records: the splits that are trained and validated on.
      workdir: folder of the run; exists.
      first_host: only the first host writes.

    Raises:
      ConfigError: the run there was trained on other records; names the splits that differ.
    """
    path = workdir / RECORDS_FILE
    fingerprints = {split.split: split.fingerprint for split in records}
    kept = read_records(workdir)
    if kept is not None:
        before = {name: entry["fingerprint"] for name, entry in kept["splits"].items()}
        if changes := [f"{name} was {old}, is {new}" for name, old, new in differences(before, fingerprints)]:
            raise ConfigError(
                f"{workdir} holds a run that was trained on other records ({'; '.join(changes)}); give the old records "
                "to go on with it, or another --workdir to start a new run"
            )
    elif first_host and not (workdir / "checkpoints").exists():
        metadata = records[0].metadata
        splits = {
            split.split: {"fingerprint": split.fingerprint, **metadata["splits"][split.split]} for split in records
        }
        made = {name: metadata[name] for name in ("task", "schema_version") if name in metadata}
        source = metadata.get("source")  # of `lba` a mapping that names the pocket
        if isinstance(source, Mapping) and source.get("pocket") is not None:
            made["pocket"] = source["pocket"]
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps({**made, "splits": splits}, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, path)


def read_records(workdir: str | Path) -> Mapping[str, Any] | None:
    """What `WORKDIR/records.json` holds; None where the run was made before it was written.

    Raises:
      ConfigError: the file is not what `keep_records` wrote.
    """
    path = Path(workdir) / RECORDS_FILE
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(entry["fingerprint"], str) for entry in kept["splits"].values()):
            raise TypeError("a fingerprint is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path} does not say which records there were ({reason}); copy it from the run") from error
    return kept


def training_data(path: str | Path, about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`read_records` of a run, or of the run that an export was made of; None where it is not known.

    Args:
      path: folder of the run or export.
      about: what its checkpoint says of itself.

    Raises:
      ConfigError: as `read_records`.
    """
    if is_model_folder(path):
        known = about.get("training_data")
        return known if isinstance(known, dict) else None
    return read_records(path)


def training_pocket(data: Mapping[str, Any] | None) -> float | None:
    """Å around the ligand within which the records have residues; None: whole proteins, or not known.

    Args:
      data: of `training_data`.
    """
    return None if data is None else data.get("pocket")
