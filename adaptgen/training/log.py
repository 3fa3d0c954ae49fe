"""What a run leaves for people to look at: a JSONL log, TensorBoard logs and a loss curve.

log.jsonl       one line per step and per validation
loss.png        drawn anew at each validation
tensorboard/    if TensorBoard is installed
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from adaptgen.training.loop import Validation

__all__ = ["CURVE", "LOG", "TENSORBOARD", "RunLog"]

LOG, CURVE, TENSORBOARD = "log.jsonl", "loss.png", "tensorboard"
SMOOTHING_SHARE = 50
"""The training curve is a mean over one in so many of the steps so far."""


class RunLog:
    """The logs of one run, going on after the step at which it is resumed.

    Args:
        folder: of the run.
        step: where the run stands. Later lines, of steps that were lost with a killed process, are dropped.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self.folder = folder
        self.records = [record for record in _read_records(folder / LOG) if record["step"] <= step]
        partial = folder / f"{LOG}.partial"
        partial.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
        partial.replace(folder / LOG)
        self._file = (folder / LOG).open("a", encoding="utf-8", buffering=1)
        self._tensorboard = _open_tensorboard(folder / TENSORBOARD, step)

    @property
    def has_tensorboard(self) -> bool:
        return self._tensorboard is not None

    @property
    def training_seconds(self) -> float:
        """Time spent on training steps so far, over all resumptions."""
        return sum(record["seconds"] for record in self.records if "loss" in record)

    def add_step(self, record: dict[str, float]) -> None:
        """Note what `Trainer` says of a step."""
        self._add(record)
        if self._tensorboard is not None:
            for key in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
                self._tensorboard.add_scalar(f"train/{key}", record[key], record["step"])

    def add_validation(self, step: int, validation: Validation) -> None:
        """Note a validation and draw the curve."""
        loss = validation.nats_per_token
        self._add({"step": step, "validation": {"nats_per_token": loss, **validation.by_source}})
        if self._tensorboard is not None and loss is not None:
            self._tensorboard.add_scalar("validation/nats_per_token", loss, step)
            for source, values in validation.by_source.items():
                for key, value in values.items():
                    self._tensorboard.add_scalar(f"validation/{key}/{source}", value, step)
        self._draw_curve()

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")

    def _draw_curve(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        steps = [record["step"] for record in self.records if "loss" in record]
        losses = _running_mean([record["loss"] for record in self.records if "loss" in record])
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="nats per token")
        axes.set_title(f"Loss of {self.folder.name}", parse_math=False)
        axes.plot(steps, losses, label="train (running mean)", linewidth=1)
        validations = [record for record in self.records if "validation" in record]
        held_out = [(record["step"], record["validation"]["nats_per_token"]) for record in validations]
        if any(loss is not None for _, loss in held_out):
            axes.plot(*zip(*held_out, strict=True), label="validation", marker="o", markersize=4)
        axes.grid(alpha=0.3)
        axes.legend()
        partial = self.folder / f"{CURVE}.partial"
        figure.savefig(partial, format="png", dpi=120)
        partial.replace(self.folder / CURVE)


def _read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a log, each with its step; what follows a damaged line is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not (isinstance(record, dict) and isinstance(record.get("step"), int | float)):
            break
        records.append(record)
    return records


def _running_mean(values: list[float]) -> np.ndarray:
    stops = np.arange(1, len(values) + 1)
    starts = np.maximum(0, stops - max(1, len(values) // SMOOTHING_SHARE))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[stops] - sums[starts]) / (stops - starts)


def _open_tensorboard(folder: Path, step: int) -> Any:
    """A writer that hides what an earlier process wrote beyond `step`; None if TensorBoard is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
