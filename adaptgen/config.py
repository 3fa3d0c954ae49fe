"""What a recipe may say: the schema of every setting, checked before anything heavy is loaded.

`adaptgen.recipe_files` reads it from YAML. This module imports no torch.
"""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

__all__ = [
    "ArchiveConfig",
    "CutConfig",
    "DataConfig",
    "DownloadConfig",
    "FilesConfig",
    "ModelConfig",
    "Recipe",
    "Settings",
    "ShortcutConfig",
    "SourceConfig",
    "SplitsConfig",
    "TableConfig",
    "TrainingConfig",
]


class Settings(BaseModel):
    """Base of all settings: immutable, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes(cls, value: Any, info: ValidationInfo) -> Any:
        # Python, and so pydantic, counts yes as 1.
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("input should not be yes, no, on, off, true or false; what is meant as text needs quotes")
        return value


class ShortcutConfig(Settings):
    """Layerwise attention shortcuts in the last block (arXiv:2409.10870)."""

    place: Literal["add", "replace"] = "add"
    """Beside the last block's self-attention, or instead of it (its own input is then one more depth)."""
    feature_map: Literal["linear", "mlp"] = "linear"
    """How an earlier layer's output becomes keys and values: one projection per depth, or an MLP per depth
    followed by a projection that all depths share."""
    map_dim: int | None = Field(default=None, ge=8)
    """Hidden width of the MLP maps; half the model width if not given."""
    depths: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Which depths are read: 0 is the embedding, i the output of block i. All below the last block if not given."""
    window: int | None = Field(default=None, ge=1)
    """How many frames a query sees of the earlier layers, its own included: 1 reads its own frame alone. As many as
    self-attention does if not given."""

    @model_validator(mode="after")
    def _check(self) -> ShortcutConfig:
        if self.map_dim is not None and self.feature_map == "linear":
            raise ValueError(f"map_dim {self.map_dim} is a width of feature_map mlp; with linear it must be left out")
        return self


class ModelConfig(Settings):
    """Shape of the transformer; the vocabulary comes from the tokenizer."""

    num_layers: int = Field(ge=1, le=200)
    num_heads: int = Field(ge=1)
    model_dim: int = Field(ge=8)
    mlp_dim: int | None = Field(default=None, ge=8)
    """Hidden width of the blocks' MLPs; four times the model width if not given."""
    attention_window: int = Field(ge=2)
    """How many frames a query sees, its own included. Longer input is read through a sliding window."""
    init_std: float = Field(default=0.02, gt=0)
    """Deviation, before training, of the normal weights that read the residual stream. This is GPT-2's; one over the
    root of the width keeps the size of what they read, and trains faster at first (docs/LOG.md)."""
    scale_embedding: bool = False
    """Multiply embeddings by the root of the width (arXiv:1706.03762, section 3.4), lest what blocks add drown them."""
    shortcut: ShortcutConfig | None = ShortcutConfig()
    """None gives a plain GPT."""
    depth_mixing: Literal["denseformer", "attention_residual", "value_residual"] | None = None
    """Another way to read earlier layers: arXiv:2402.02622, 2603.15031, 2410.17897. The last may go with one."""

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.model_dim % (2 * self.num_heads):
            raise ValueError(
                f"model_dim {self.model_dim} is not a multiple of 2 * num_heads ({2 * self.num_heads}), "
                "which rotary positions need"
            )
        num_attentions = self.num_layers - (self.shortcut is not None and self.shortcut.place == "replace")
        if self.depth_mixing == "value_residual" and num_attentions < 2:
            raise ValueError("depth_mixing value_residual needs a second layer with self-attention to mix values into")
        if self.shortcut is not None:
            if self.depth_mixing not in (None, "value_residual"):
                raise ValueError(f"depth_mixing {self.depth_mixing} takes the place of a shortcut, which must be null")
            if self.num_layers < 2:
                raise ValueError("a shortcut needs num_layers of 2 or more")
            if (self.shortcut.window or 1) > self.attention_window:
                raise ValueError(
                    f"shortcut.window {self.shortcut.window} is more than attention_window {self.attention_window}"
                )
            depths = self.shortcut.depths
            if depths is not None and (not depths or sorted(set(depths)) != list(depths)):
                raise ValueError(f"shortcut.depths {list(depths)} must be increasing and not empty")
            if depths is not None and depths[-1] > self.num_layers - 2:
                raise ValueError(
                    f"shortcut.depths has {depths[-1]}, but the deepest layer below the last block's input "
                    f"is {self.num_layers - 2}"
                )
        return self


class SourceConfig(Settings):
    """One folder of a corpus and how often it is drawn from."""

    path: str = "."
    """Relative to the data folder."""
    weight: float = Field(default=1.0, gt=0)
    """Share of training sequences, relative to the other sources."""


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ArchiveConfig(Settings):
    """A .zip or .tar file (.gz, .xz and .bz2 as well) as it is published."""

    url: str = Field(pattern=r"^https?://[^/\s]+/(\S*/)?[^/\s?#.][^/\s?#]*$")
    size_bytes: int = Field(ge=1)
    sha256: Sha256 | None = None
    """None if nobody has published it: then the size alone is checked, and what was found is said."""

    @property
    def name(self) -> str:
        """Of the file, as the URL has it."""
        return self.url.rpartition("/")[2]


def _checked_glob(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if not parts or ".." in parts or PurePosixPath(pattern).is_absolute() or PureWindowsPath(pattern).anchor:
        raise ValueError("a glob names files below the unpacked folder, such as **/*.txt")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("in a glob, ** stands for folders alone, as in **/*.txt")
    return pattern


Glob = Annotated[str, AfterValidator(_checked_glob)]


class CutConfig(Settings):
    """One file cut in three, in this order, with nothing left over."""

    file: Glob
    """A glob that one unpacked file matches."""
    train_bytes: int = Field(ge=1)
    validation_bytes: int = Field(ge=1)
    test_bytes: int = Field(ge=1)


class FilesConfig(Settings):
    """Each split is the files that match its glob."""

    train: Glob
    validation: Glob
    test: Glob


class TableConfig(Settings):
    """A CSV file says of each file, by its path from there, in which of train, validation and test it is."""

    file: Glob
    """A glob that one unpacked file matches."""
    path_column: str
    split_column: str


class SplitsConfig(Settings):
    """How the published splits are made of what an archive holds; one of the three rules."""

    cut: CutConfig | None = None
    files: FilesConfig | None = None
    table: TableConfig | None = None
    suffix: str = Field(default="", pattern=r"^(\.\w+)?$")
    """Added to the names of files, where they have none that the domain reads."""
    train_piece_bytes: int | None = Field(default=None, ge=1)
    """Cut larger training texts into pieces of at most so much, at line ends or else blanks, so that they are read
    side by side and need little memory. What is held out stays whole."""

    @model_validator(mode="after")
    def _check(self) -> SplitsConfig:
        if sum(rule is not None for rule in (self.cut, self.files, self.table)) != 1:
            raise ValueError("give one of cut, files and table")
        return self


class DownloadConfig(Settings):
    """Published data: where they are, what they must be, and how they are split."""

    licence: str
    """Shown before anything is fetched."""
    archives: tuple[ArchiveConfig, ...] = Field(min_length=1)
    """Each unpacked into a folder of its own; the splits' rule goes over all of them."""
    checksums: dict[str, Sha256] = {}
    """SHA-256 of unpacked files by name, for copies that come without their archive."""
    splits: SplitsConfig


class DataConfig(Settings):
    """Where training data lies and how it is prepared."""

    folder: str | None = None
    """Replaced by --data; where it is no path, it is looked for in what is shipped, such as `examples/corpus`. With
    `download` it is left out, and is then the folder below the cache to which the data were brought."""
    download: DownloadConfig | None = None
    """Published data to fetch, or to take from --source."""
    sources: tuple[SourceConfig, ...] = (SourceConfig(),)
    validation_share: float = Field(default=0.05, ge=0, lt=0.5)
    test_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Used where a source has no train/, validation/ and test/ folders of its own: files are then dealt out by
    a hash of their content, so that copies of a file stay on one side. Of a single file the last parts are taken."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.folder is None and self.download is None:
            raise ValueError("give a folder, or a download")
        if not self.sources:
            raise ValueError("sources is empty; without it, all files of the folder are taken")
        paths = [posixpath.normpath(source.path) for source in self.sources]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"sources has {path!r} twice; give it once, with the weights of both together")
        return self


class TrainingConfig(Settings):
    """One training run."""

    max_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Sequences per step, of all processes together."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """How many of a process's sequences go through the model at a time, with their gradients added up, which saves
    memory; all of them if not given."""
    seq_len: int = Field(ge=8)
    """Frames per training sequence."""
    learning_rate: float = Field(gt=0)
    """Of AdamW."""
    muon_learning_rate: float | None = Field(default=None, gt=0)
    """Use Muon for the matrices inside the blocks, at this rate; AdamW for all if not given."""
    warmup_steps: int = Field(default=100, ge=0)
    decay_share: float = Field(default=0.3, ge=0, le=1)
    """The last part of the run over which the learning rate falls to zero; before it, it is constant, so that
    a run can be made longer without starting again (arXiv:2405.18392)."""
    weight_decay: float = Field(default=0.1, ge=0)
    beta2: float = Field(default=0.95, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    validate_every: int = Field(default=100, ge=1)
    validation_batches: int = Field(default=16, ge=1)
    """Of each source."""
    augment: bool = True
    """Let the domain vary its documents (for music: transposition and instruments)."""
    compile: bool = False
    """torch.compile: faster steps after a minute of warm-up; needs a C++ compiler on CPU."""
    checkpoint_activations: bool = False
    """Keep the blocks' inputs alone for the backward pass and compute the rest again, which saves memory for a third
    more work."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in the forward and backward pass; weights and optimiser state are always float32."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """auto takes the first of the others that is there."""
    fsdp: bool = False
    """Divide weights, gradients and optimiser state among the processes that torchrun starts, for models that do not
    fit one device; otherwise each process has all of them."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads; torch's own choice if not given."""


class Recipe(Settings):
    """Everything that `adaptgen train` needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Default name of the run's folder."""
    domain: str
    init_from: str | None = None
    """A checkpoint to start from: a shipped name or a folder."""
    tokenizer: dict[str, Any] = {}
    """Options of the domain's tokenizer, checked by the domain."""
    model: ModelConfig | None = None
    """Must be left out with `init_from`, which brings its own."""
    data: DataConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if (self.model is None) == (self.init_from is None):
            raise ValueError("give either model or init_from, not both and not neither")
        return self
