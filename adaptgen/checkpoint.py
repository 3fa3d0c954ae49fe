"""A checkpoint is a folder: weights, configuration, tokenizer, metrics and a card.

    model.safetensors   weights, bfloat16 unless asked otherwise
    config.json         format version, domain, model, tokenizer options and fingerprint, sampling defaults, recall
    tokenizer.json ...  what the domain's tokenizer keeps
    metrics.json        what was measured, and on what
    README.md           the model card

Nothing is ever unpickled. Names and shapes of all weights are checked before the model is touched.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from adaptgen import domains
from adaptgen.checkpoint_files import (
    CARD,
    CONFIG,
    FORMAT_VERSION,
    METRICS,
    WEIGHTS,
    find_checkpoint,
    name_of,
    read_config,
    read_metrics,
    shipped,
)
from adaptgen.config import ModelConfig
from adaptgen.domains.base import Domain, Tokenizer
from adaptgen.errors import CheckpointError, RecipeError, UsageError
from adaptgen.model import Transformer
from adaptgen.recall import Recall
from adaptgen.sampling import Sampling

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "find_checkpoint",
    "load_checkpoint",
    "load_tokenizer",
    "load_weights",
    "read_config",
    "read_metrics",
    "replace_folder",
    "restore_folder",
    "save_checkpoint",
    "save_recall",
    "shipped",
]

RENAME_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before trying again to rename a folder: on Windows a virus scanner holds for a while what was just written."""


@dataclass
class Checkpoint:
    """A model with everything that belongs to it."""

    domain: Domain
    tokenizer: Tokenizer
    model: Transformer
    metrics: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw from it unless the user says otherwise."""
    recall: Recall | None = None
    """How it uses what came earlier than it sees; None where that does not help it."""
    name: str = ""


def load_tokenizer(name: str | Path, *, domain: Domain | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint, without its weights; arguments and errors as of `load_checkpoint`."""
    return _load_parts(name, domain).tokenizer


def load_checkpoint(name: str | Path, *, domain: Domain | None = None) -> Checkpoint:
    """Load a checkpoint for use on the CPU in float32.

    Args:
        name: a folder or a shipped name.
        domain: what it must be for; any if not given.

    Raises:
        CheckpointError: it is missing, damaged, or of another domain; says which tensor or file.
    """
    parts = _load_parts(name, domain)
    model = Transformer(parts.model_config, parts.tokenizer.vocab_sizes)
    load_weights(model, parts.folder / WEIGHTS)
    return Checkpoint(
        parts.domain,
        parts.tokenizer,
        model.eval(),
        metrics=read_metrics(parts.folder),
        sampling=parts.sampling,
        recall=parts.recall,
        name=name_of(parts.folder),
    )


class _Parts(NamedTuple):
    """What a checkpoint holds beside its weights."""

    folder: Path
    domain: Domain
    tokenizer: Tokenizer
    model_config: ModelConfig
    sampling: Sampling
    recall: Recall | None


def _load_parts(name: str | Path, domain: Domain | None) -> _Parts:
    folder = find_checkpoint(name)
    config = read_config(folder)
    try:
        own_domain = domains.get(config["domain"])
        model_config = ModelConfig.model_validate(config["model"])
        sampling = Sampling(**config["sampling"])
        # Checkpoints of before there was recall say nothing of it.
        recall = None if config.get("recall") is None else Recall(**config["recall"])
        options, fingerprint = dict(config["tokenizer"]), config["tokenizer_fingerprint"]
    except (KeyError, TypeError, ValueError, UsageError, RecipeError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged: {error!r}", "Get the checkpoint again") from None
    if domain is not None and own_domain is not domain:
        raise CheckpointError(
            f"checkpoint {name} is for {own_domain.name}, not for {domain.name}", "Give another with --checkpoint"
        )
    tokenizer = own_domain.tokenizer_type.load(folder, options)
    if tokenizer.fingerprint != fingerprint:
        raise CheckpointError(
            f"{folder} was trained on tokens {fingerprint}; this adaptgen makes {tokenizer.fingerprint}",
            "Use the adaptgen version it was trained with, or train again",
        )
    return _Parts(folder, own_domain, tokenizer, model_config, sampling, recall)


def load_weights(
    model: torch.nn.Module,
    path: Path,
    *,
    prefix: str = "",
    place: Callable[..., torch.Tensor] = lambda tensor, like: tensor,
) -> None:
    """Copy a safetensors file into a model, after checking every name and shape.

    Args:
        model: to be filled.
        path: of the file.
        prefix: which of its tensors, and what is before their names.
        place: called with a tensor and, as `like`, the model's own; makes the one fit to be copied into the other.

    Raises:
        CheckpointError: the file cannot be read, or a tensor is missing, unknown, of another shape or not finite;
            the model is then as it was.
    """
    expected = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            names = {name.removeprefix(prefix) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
            for name in sorted(expected.keys() ^ names):
                side = "lacks" if name in expected else "has an unknown"
                raise CheckpointError(f"{path} {side} tensor {name!r}", "Get the checkpoint again")
            for name, parameter in expected.items():
                shape = tuple(file.get_slice(prefix + name).get_shape())
                if shape != tuple(parameter.shape):
                    raise CheckpointError(
                        f"{path}: tensor {name!r} has shape {list(shape)}, the model wants {list(parameter.shape)}",
                        "Get the checkpoint again",
                    )
            state = {name: file.get_tensor(prefix + name).to(expected[name].dtype) for name in expected}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "Get the checkpoint again") from None
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {name!r} is not finite", "Get the checkpoint again")
    model.load_state_dict({name: place(tensor, like=expected[name]) for name, tensor in state.items()})


def save_recall(folder: Path, recall: Recall | None) -> None:
    """Change what a checkpoint's config.json says of recall, and nothing else; a killed one leaves no file in it."""
    config = {**read_config(folder), "recall": None if recall is None else asdict(recall)}
    with replace_folder(folder) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Write a folder anew, so that there is never half of it: yields a temporary one, then swaps them."""
    restore_folder(folder)
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    for path in (partial, old):
        shutil.rmtree(path, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            _rename(folder, old)
        _rename(partial, folder)
    except BaseException:
        restore_folder(folder)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Undo a `replace_folder` that came to its end between its two renames."""
    old = folder.with_name(folder.name + ".old")
    if old.exists() and not folder.exists():
        _rename(old, folder)


def _rename(folder: Path, target: Path) -> None:
    """Rename a folder that another program may hold for a moment."""
    for seconds in RENAME_WAITS_SECONDS:
        try:
            folder.rename(target)
            return
        except PermissionError:
            time.sleep(seconds)
    folder.rename(target)


def save_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    card: str,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the files of a checkpoint, weights in bfloat16, into an existing folder.

    Args:
        checkpoint: what to write.
        folder: where; see `replace_folder` for writing atomically.
        card: text of README.md.
        weights: the model's, where it does not hold them whole.
    """
    weights = checkpoint.model.state_dict() if weights is None else weights
    weights = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(weights, folder / WEIGHTS)
    config = {
        "format_version": FORMAT_VERSION,
        "domain": checkpoint.domain.name,
        "model": checkpoint.model.config.model_dump(mode="json"),
        "tokenizer": checkpoint.tokenizer.to_options(),
        "tokenizer_fingerprint": checkpoint.tokenizer.fingerprint,
        "sampling": asdict(checkpoint.sampling),
        "recall": None if checkpoint.recall is None else asdict(checkpoint.recall),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # safetensors gives its files to their owner alone; a checkpoint is as public as its folder.
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)
    (folder / METRICS).write_text(json.dumps(checkpoint.metrics, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")
    checkpoint.tokenizer.save(folder)
