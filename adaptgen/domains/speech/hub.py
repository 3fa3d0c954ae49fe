"""Published networks as the Hugging Face hub lays them out: a folder with config.json and model.safetensors."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptgen.errors import CheckpointError, DownloadError, UsageError

__all__ = ["CONFIG", "WEIGHTS", "check_folder", "fetch", "read_model"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PICKLES = (".bin", ".th", ".pt", ".pth", ".ckpt")
TRANSFORMERS_COMMAND = 'pip install "transformers>=5,<6"'


def fetch(repository: str) -> Path:
    """The folder of a repository's network in the hub's own cache, fetched if it is not there.

    Raises:
        DownloadError: it is not there, and the hub cannot be reached or does not have it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        # The client has errors of its own, those of its transport, and OSError.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DownloadError(
            f"{repository} cannot be fetched from the Hugging Face hub: {reason}",
            f"Check the network, or name a folder that holds it, as `{_command(repository)}` makes one",
        ) from None


def check_folder(folder: Path, repository: str, expected: Mapping[str, Any]) -> None:
    """See that a folder holds the network that it should.

    Args:
        folder: of the network.
        repository: where it can be had.
        expected: what config.json must say; a key that it lacks has its default, unless that is what tells networks
            apart (model_type and sampling_rate).

    Raises:
        CheckpointError: a file is missing or damaged, or is of another network.
    """
    remedy = f"Get it with `{_command(repository)}`"
    for path in (folder / CONFIG, folder / WEIGHTS):
        if path.is_file():
            continue
        if not folder.is_dir():
            raise CheckpointError(f"there is no folder {folder}", remedy)
        pickles = sorted(found.name for found in folder.iterdir() if found.suffix in PICKLES)
        why = f"; {pickles[0]} is not read, since a pickle may run any code" if pickles else ""
        raise CheckpointError(f"{folder} has no {path.name}{why}", remedy)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be used: {error}", remedy) from None
    for key, value in expected.items():
        default = None if key in ("model_type", "sampling_rate") else value
        if (found := config.get(key, default)) != value:
            raise CheckpointError(f"{folder} is not {repository}: its {key} is {found!r}, not {value!r}", remedy)


def read_model(class_name: str, folder: Path) -> Any:
    """A network of transformers in float32, read from a folder that `check_folder` has passed.

    Raises:
        UsageError: transformers is missing, or cannot be imported.
        CheckpointError: the weights are damaged, or are not those of the network.
    """
    model_class = getattr(_import_transformers(class_name), class_name)
    import torch
    from safetensors import SafetensorError

    remedy = "Get it again"
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(f"{folder} cannot be used: {reason}", remedy) from None
    # What does not fit has been left at random.
    for name, *_ in sorted(report["mismatched_keys"]):
        raise CheckpointError(f"{folder / WEIGHTS} has tensor {name!r} of another shape", remedy)
    for side, problem in (("missing_keys", "lacks"), ("unexpected_keys", "has an unknown")):
        for name in sorted(report[side]):
            raise CheckpointError(f"{folder / WEIGHTS} {problem} tensor {name!r}", remedy)
    return model.eval()


def _import_transformers(class_name: str) -> Any:
    try:
        module = importlib.import_module("transformers")
        getattr(module, class_name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        problem = f"the package transformers cannot be imported: {reason}"
        raise UsageError(problem, _transformers_remedy()) from None
    return module


def _transformers_remedy() -> str:
    """What mends transformers: its models do not load beside a torchaudio that is of another build than torch."""
    if importlib.util.find_spec("torchaudio") is not None:
        try:
            importlib.import_module("torchaudio")
        except (ImportError, OSError, RuntimeError):
            return "pip uninstall torchaudio, which does not fit the torch that is installed"
    return TRANSFORMERS_COMMAND


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars and hints of transformers: what is wrong is said in a sentence."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _command(repository: str) -> str:
    return f"hf download {repository} --local-dir FOLDER"
