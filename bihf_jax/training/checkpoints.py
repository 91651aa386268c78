"""Checkpoints through Orbax: the last one to resume from, the best one to use.

Two managers, as one that keeps the best loses the last. Arrays are saved as numpy from one replica, so a checkpoint
knows nothing of devices and can be restored on any number of them. Of several hosts the first one writes and all read;
no host waits for another in here.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from bihf_jax.data import alphabet
from bihf_jax.training.step import TrainState
from bihf_jax.version import __version__

# The parts of a checkpoint, each a folder.
_PARTS = {"last": ("state", "progress", "about"), "best": ("params", "about")}


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or does not fit; the message says which and what differs."""


@dataclasses.dataclass
class Progress:
    """What a resumed run must know beside the state.

    Attributes:
      best_score: of the best validation so far, None before the first.
      best_step: where it was reached.
      pending: loss sum, weight sum, gradient norm, residues and slots of each step since the last line of the log.
    """

    best_score: float | None = None
    best_step: int | None = None
    pending: list[list[float]] = dataclasses.field(default_factory=list)


class Checkpoints:
    """`WORKDIR/checkpoints/last` (whole state) and `.../best` (parameters of the best validation)."""

    def __init__(
        self,
        workdir: str | Path,
        config: Mapping[str, Any] | None = None,
        best_params: Callable[[TrainState], Any] = lambda state: state.params,
    ):
        """Opens the two managers.

        Args:
          workdir: of the run.
          config: the run's config, written into each checkpoint; None to read only. Hosts other than the first only
            read in any case, and `save` does nothing there.
          best_params: what of a state is kept as the best.

        Raises:
          CheckpointError: to read only, and the run has saved nothing yet.
        """
        self.directory = Path(workdir).absolute() / "checkpoints"
        self._writes = config is not None and jax.process_index() == 0
        if not self._writes and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory} is missing: the run has saved no checkpoint yet; train first")
        self._config, self._best_params = config, best_params
        self._last = self._manager("last", max_to_keep=2)
        self._best = self._manager("best", max_to_keep=1)

    def _manager(self, name: str, max_to_keep: int) -> ocp.CheckpointManager:
        # To Orbax each host is alone: it would have all of them meet at barriers in every save otherwise.
        here = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
        if not self._writes:
            options = ocp.CheckpointManagerOptions(
                read_only=True, create=False, save_interval_steps=0, multiprocessing_options=alone
            )
        else:
            (self.directory / name).mkdir(parents=True, exist_ok=True)
            # Saving must be over before the next line of the log is written: what is on disk is then always a
            # prefix of the run.
            options = ocp.CheckpointManagerOptions(
                max_to_keep=max_to_keep, create=False, enable_async_checkpointing=False, multiprocessing_options=alone
            )
        handlers = {
            **dict.fromkeys(("state", "params"), ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)),
            **dict.fromkeys(("progress", "about"), ocp.JsonCheckpointHandler(multiprocessing_options=alone)),
        }
        return ocp.CheckpointManager(
            self.directory / name, options=options, item_handlers={part: handlers[part] for part in _PARTS[name]}
        )

    @property
    def last_step(self) -> int | None:
        return self._last.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._best.latest_step()

    def describe_last(self) -> str:
        """Where the last checkpoint lies, for messages."""
        if not self._writes:
            self._last.reload()  # another host writes
        return "none yet" if self.last_step is None else str(self.directory / "last" / str(self.last_step))

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves `state` (numpy leaves) as the last checkpoint and, if its step is the best so far, as the best.

        The last one goes first: a run killed in between finds in it that the best is missing, and `restore` adds it.
        """
        if not self._writes:
            return
        step = int(state.step)
        if step != self.last_step:
            items = {"state": ocp.args.PyTreeSave(state), "progress": ocp.args.JsonSave(dataclasses.asdict(progress))}
            self._last.save(step, args=ocp.args.Composite(**items, about=ocp.args.JsonSave(self._about(progress))))
        if progress.best_step == step and self.best_step != step:
            self._save_best(step, self._best_params(state), progress)

    def _save_best(self, step: int, params: Any, progress: Progress) -> None:
        # After a resume from before it, the same best can be reached a second time; earlier ones make room for it.
        for old in [s for s in self._best.all_steps() if s >= step]:
            self._best.delete(old)
        items = {"params": ocp.args.PyTreeSave(params), "about": ocp.args.JsonSave(self._about(progress))}
        self._best.save(step, args=ocp.args.Composite(**items))

    def _about(self, progress: Progress) -> dict[str, Any]:
        return {
            "bihf_jax": __version__,
            "alphabet": list(alphabet.TOKENS),
            "config": self._config,
            "best_score": progress.best_score,
        }

    def restore(self, template: TrainState) -> tuple[TrainState, Progress] | None:
        """The last checkpoint as numpy arrays in the form of `template`, or None where there is none.

        Raises:
          CheckpointError: its parameters are not those of `template`.
        """
        step = self.last_step
        if step is None:
            return None
        self._check_params(self._last.item_metadata(step)["state"].tree["params"], template.params, f"last/{step}")
        items = ocp.args.Composite(state=_as_numpy(template), progress=ocp.args.JsonRestore())
        restored = self._last.restore(step, args=items)
        state, progress = restored["state"], Progress(**restored["progress"])
        if self._writes and progress.best_step == step and self.best_step != step:
            self._save_best(step, self._best_params(state), progress)
        return state, progress

    def restore_params(self, template: Any, *, which: str = "best") -> tuple[int, Any]:
        """(step, parameters) of the best or last checkpoint as numpy arrays in the form of `template`.

        Raises:
          CheckpointError: no such checkpoint, or its parameters are not those of `template`.
        """
        manager, step = self._whole(which)
        with _readable(self.directory / which / str(step)):
            if which == "best":
                self._check_params(manager.item_metadata(step)["params"].tree, template, f"best/{step}")
                return step, manager.restore(step, args=ocp.args.Composite(params=_as_numpy(template)))["params"]
            self._check_params(manager.item_metadata(step)["state"].tree["params"], template, f"last/{step}")
            part = ocp.args.Composite(state=_as_numpy({"params": template}, partial_restore=True))
            return step, manager.restore(step, args=part)["state"]["params"]

    def about(self, *, which: str = "best") -> dict[str, Any]:
        """What the best or last checkpoint says of itself: "bihf_jax" (version), "alphabet", "config", "best_score".

        Raises:
          CheckpointError: no such checkpoint, or one that is damaged.
        """
        manager, step = self._whole(which)
        with _readable(self.directory / which / str(step)):
            about = manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
            if missing := {"bihf_jax", "alphabet", "config"} - set(about):
                raise ValueError(f"about says nothing of {', '.join(sorted(missing))}")
        return about

    def _whole(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        """The manager and step of a checkpoint that has all of its parts."""
        manager = {"best": self._best, "last": self._last}[which]
        step = manager.latest_step()
        if step is None:
            raise CheckpointError(f"no {which!r} checkpoint in {self.directory}; train first, or give another workdir")
        folder = self.directory / which / str(step)
        if missing := [part for part in _PARTS[which] if not (folder / part).is_dir()]:
            raise CheckpointError(f"checkpoint {folder} lacks its part {', '.join(missing)}; copy the run again, whole")
        return manager, step

    def _check_params(self, saved: Any, wanted: Any, name: str) -> None:
        saved_shapes, wanted_shapes = _shapes(saved), _shapes(wanted)
        if saved_shapes == wanted_shapes:
            return
        lines = [f"checkpoint {self.directory / name} holds another model than the config describes:"]
        lines += [
            f"  only in the checkpoint: {k} {saved_shapes[k]}" for k in sorted(saved_shapes.keys() - wanted_shapes)
        ]
        lines += [f"  only in the model: {k} {wanted_shapes[k]}" for k in sorted(wanted_shapes.keys() - saved_shapes)]
        lines += [
            f"  {k}: {saved_shapes[k]} in the checkpoint, {wanted_shapes[k]} in the model"
            for k in sorted(saved_shapes.keys() & wanted_shapes)
            if saved_shapes[k] != wanted_shapes[k]
        ]
        raise CheckpointError("\n".join([*lines, "use the config that the run was started with, or a new workdir"]))

    def close(self) -> None:
        self._last.close()
        self._best.close()


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turns what Orbax raises on missing and damaged files into a `CheckpointError` that names the checkpoint."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"checkpoint {folder} cannot be read: {type(error).__name__}: {reason}; a file of it is missing or "
            "damaged: copy the run again, whole"
        ) from error


def _as_numpy(template: Any, **options: Any) -> ocp.args.PyTreeRestore:
    """Restore in the form of `template`, every leaf as a numpy array, whatever devices it was saved from."""
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    return ocp.args.PyTreeRestore(item=template, restore_args=restore_args, **options)


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(str(getattr(key, "key", key)) for key in path): tuple(leaf.shape) for path, leaf in leaves}
