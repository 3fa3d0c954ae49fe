"""What a domain offers to the rest of adaptgen, to which music, text and speech look alike.

The rest of adaptgen imports nothing from a domain's folder: it knows these classes, and asks `adaptgen.domains` for the
domain of a file or a name. Adding a domain is adding a folder with a `DOMAIN` in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from adaptgen.errors import UsageError

__all__ = [
    "MAX_VARIATIONS",
    "CodecTools",
    "Continuation",
    "ContinuationRequest",
    "Domain",
    "Grammar",
    "Prompt",
    "StandIn",
    "Tokenizer",
]

MAX_VARIATIONS = 64
"""Continuations of one input that are drawn together."""


class Tokenizer(ABC):
    """Turns the domain's material into frames of K tokens. What it takes and gives is the domain's own affair.

    Tokens are kept as uint16, so that no vocabulary is larger than 65,536. A tokenizer is pickled to the processes that
    read files.
    """

    begin: int
    """The token that begins a document, in every stream."""
    unit_name: ClassVar[str]
    """What a musician or reader counts in place of tokens: note, second, byte. Losses are reported by it."""

    def fit(self, paths: Iterable[Path]) -> None:  # noqa: B027 - not abstract: most have nothing to learn
        """Learn from training files what the options leave open, before anything is tokenised or the model is made.

        The same files in the same order give the same tokenizer.
        """

    @property
    @abstractmethod
    def vocab_sizes(self) -> tuple[int, ...]:
        """Number of tokens of each stream."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the same material would give other tokens."""

    @abstractmethod
    def count_units(self, tokens: np.ndarray) -> float:
        """How many units `[K, T]` tokens hold."""

    @abstractmethod
    def describe(self, tokens: np.ndarray) -> list[str]:
        """A readable name for each frame of `[K, T]` tokens."""

    @abstractmethod
    def kinds_of(self, tokens: np.ndarray) -> list[str]:
        """A coarse class of each frame of `[K, T]` tokens, to average over: pitch or bar, letter or space."""

    def heights_of(self, tokens: np.ndarray) -> np.ndarray:
        """float `[T]`: where each frame stands in a picture, such as a note at its pitch; NaN for nowhere."""
        return np.full(tokens.shape[1], np.nan)

    def image_of(self, tokens: np.ndarray) -> np.ndarray | None:
        """float `[M, T]`: a picture with one column for each frame, such as a spectrogram, NaN where there is none."""
        return None

    @abstractmethod
    def to_options(self) -> dict[str, Any]:
        """What `from_options` needs to make this tokenizer again."""

    @classmethod
    def check_options(cls, options: dict[str, Any]) -> None:
        """Raise what `from_options` would for a mistake in them, and fetch nothing."""
        cls.from_options(options)

    @classmethod
    @abstractmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Make one from a recipe's `tokenizer` section.

        Raises:
            RecipeError: an option is unknown or out of range.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's own files into a checkpoint's folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: dict[str, Any]) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the files are missing, damaged or of another version.
        """


@dataclass(frozen=True)
class StandIn:
    """A token of a stream, and those whose probability is added to its own."""

    stream: int
    token: int
    others: np.ndarray


class Grammar(ABC):
    """Which frame may come next in one continuation. A fresh one per continuation; it is told every frame drawn."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether the continuation is complete. The frame that made it so is dropped: it says that the end has come,
        and is no part of the continuation."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """How much of the continuation is there, from 0 to 1."""

    @abstractmethod
    def allowed(self) -> np.ndarray:
        """bool `[K, V]`, V the largest vocabulary: the tokens that are legal next; at least one per stream. Only valid
        until `accept`."""

    def stand_ins(self) -> Sequence[StandIn]:
        """Legal tokens that take over the probability of others that mean the same where those are not legal.

        Without them a model that wants what is not legal does, of all that is, what it wants next, which may be
        of quite another kind. Only valid until `accept`.
        """
        return ()

    @abstractmethod
    def accept(self, frame: np.ndarray) -> None:
        """Go on by one frame, int `[K]`, which `allowed` must hold."""

    def take_text(self) -> str:
        """What has been written since the last call, where that is something to read as it comes."""
        return ""


LENGTHS = ("bars", "seconds", "words", "chars", "tokens")


@dataclass(frozen=True, kw_only=True)
class ContinuationRequest:
    """What the user wants, in the domain's units. A domain refuses what it has no meaning for."""

    bars: int | None = None
    seconds: float | None = None
    words: int | None = None
    chars: int | None = None
    tokens: int | None = None
    from_bar: int | None = None
    """The bar, counted from 1, at which the new part begins; what the prompt has from there on is cut off."""
    from_seconds: float | None = None
    """The same as a time."""
    metre: str | None = None
    """That music recorded without a click is in, such as 3/4; or `file`, to keep to the bars of the file."""
    suffix: str | None = None
    """Of the file to write, lower case with the dot, where the user named one of the domain's."""
    new_only: bool = False
    """Give the new part alone."""
    sound: bool = True
    """Render sound beside the domain's own file, where that is a separate thing."""
    soundfont: Path | None = None
    codec: Path | None = None
    """Weights of a codec with the codes of the checkpoint's own, to make the sound with."""
    encoding: str | None = None
    """Of a text; told from the file if not given."""
    picture: bool = False
    """Draw the result, with the join marked."""

    def refuse_others(self, domain_name: str, *, known: Collection[str], remedy: str) -> None:
        """Refuse what was asked for and is not among the fields that a domain knows.

        Args:
            domain_name: of the domain.
            known: fields that mean something there.
            remedy: which lengths to give in place of one that does not.

        Raises:
            UsageError: names the option.
        """
        # These are a matter of writing, not of the material.
        for option in fields(self):
            is_asked_for = getattr(self, option.name) != option.default
            if is_asked_for and option.name not in (*known, "sound", "new_only", "suffix"):
                raise UsageError(
                    f"--{option.name.replace('_', '-')} says nothing about {domain_name}",
                    remedy if option.name in LENGTHS else "Leave it out",
                )


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A finished continuation."""

    files: dict[str, bytes]
    """Content by suffix, such as `.mid` and `.wav`, ready to write."""
    summary: dict[str, int | float | str] = field(default_factory=dict)
    """What was made, for people and for `--json`, in the order to show it."""


class Prompt(ABC):
    """One input, read and cut, together with the request."""

    @property
    @abstractmethod
    def tokens(self) -> np.ndarray:
        """int64 `[K, T]`, T >= 1, the begin token first if the whole input is in it."""

    @abstractmethod
    def new_grammar(self) -> Grammar:
        """The rules for one continuation of this prompt."""

    @abstractmethod
    def complete(self, new_tokens: np.ndarray, *, seed: Sequence[int] = (0, 0)) -> Continuation:
        """Join `[K, T]` tokens that the grammar has accepted to the input, which stays as it is.

        Args:
            new_tokens: without the frame that ended them.
            seed: of the request and of the variation; decides what tokens leave to chance, such as how late a note is
                struck.
        """


class CodecTools(ABC):
    """What `adaptgen codec` does, for a domain whose tokens are codes of a codec.

    A codec is given by its name, None for the one that comes with adaptgen, and the folder of its weights, None for
    those that come with adaptgen or were published.
    """

    @abstractmethod
    def encode(self, path: Path, *, codec: str | None, weights: Path | None) -> bytes:
        """A file's codes as a safetensors file, with all that `decode` has to know.

        Raises:
            AdaptgenError: the file or the codec cannot be read.
        """

    @abstractmethod
    def decode(self, path: Path, *, weights: Path | None, num_codebooks: int | None) -> bytes:
        """Sound, as a WAV file's bytes, of the first so many streams of what `encode` wrote; of all if not given.

        Raises:
            AdaptgenError: the file cannot be read, or is of other weights.
        """

    @abstractmethod
    def score(self, path: Path, *, codec: str | None, weights: Path | None) -> list[dict[str, Any]]:
        """What a file loses in the codec: a row of figures by name for each number of streams, None for not known.

        Raises:
            AdaptgenError: the file or the codec cannot be read.
        """

    @abstractmethod
    def fit(
        self,
        paths: Sequence[Path],
        folder: Path,
        *,
        seed: int,
        network_steps: int,
        keep_books: bool,
        on_progress: Callable[[str, int, int, str], None],
        on_skipped: Callable[[Path, str], None],
    ) -> dict[str, Any]:
        """Fit the domain's own codec to files, and write its weights into an existing folder.

        Args:
            paths, folder: from where, whereto.
            seed: decides all that chance does.
            network_steps: how long what is trained is trained; 0 leaves it out.
            keep_books: leave what decides the codes as it is in the codec that comes with adaptgen, and train the rest
                further.
            on_progress: called with what is being done, how much is done, how much there is, and how it stands.
            on_skipped: called with a file that cannot be used, and why.

        Returns:
            What is known about the result, for people.

        Raises:
            InputFileError: there is too little to learn from.
        """


class Domain(ABC):
    """A kind of material: its files, tokens, rules and measures."""

    name: ClassVar[str]
    default_checkpoint: ClassVar[str]
    """The shipped one that continues its files."""
    twins: ClassVar[tuple[str, ...]] = ()
    """Two small shipped ones of equal parameters, without and with the shortcut, trained on the same batches."""
    example_input: ClassVar[str]
    """A file name to show in examples of commands."""
    held_out: ClassVar[str]
    """A shipped folder of files that the shipped checkpoints have not seen."""
    codec_tools: ClassVar[CodecTools | None] = None
    """Where tokens are codes of a codec."""
    adapts: ClassVar[bool] = False
    """Whether models go on better with a file when they have learned it before (`adaptgen.adaptation`)."""
    is_readable: ClassVar[bool] = False
    """Whether a continuation can be read while it is drawn."""
    suffixes: ClassVar[tuple[str, ...]]
    """Of files that it reads, lower case with the dot."""
    tokenizer_type: ClassVar[type[Tokenizer]]

    @abstractmethod
    def read_documents(self, path: Path, tokenizer: Tokenizer, *, is_training: bool) -> Sequence[np.ndarray]:
        """Tokens `[K, T]` of a corpus file, each beginning with the begin token.

        Args:
            path: the file.
            tokenizer: of this domain.
            is_training: whether variants that only training should see may be added.

        Raises:
            InputFileError: the file cannot be used; the message is shown beside the file's name.
        """

    @abstractmethod
    def augment(
        self, tokenizer: Tokenizer, tokens: np.ndarray, other: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A variation of a training sequence.

        Args:
            tokenizer: of this domain.
            tokens: `[K, T]`; may begin inside a document and span several.
            other: `[K, T]`, drawn from the same corpora, for domains that mix two sequences.
            rng: decides.

        Returns:
            `[K, T]`.
        """

    def vary(self, tokenizer: Tokenizer, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same as `[K, T]` tokens say, said otherwise, such as in another key, where the domain knows how."""
        return tokens

    @abstractmethod
    def check_roundtrip(self, path: Path, tokenizer: Tokenizer) -> dict[str, int | float]:
        """What is lost when a file goes through tokens and back: counts and largest errors, by name.

        Raises:
            InputFileError: the file cannot be read.
        """

    @abstractmethod
    def render(self, path: Path, *, soundfont: Path | None) -> bytes:
        """The sound of a file, as a WAV file's bytes.

        Raises:
            InputFileError: the file or the soundfont cannot be read.
            UsageError: the domain has no sound.
        """

    @abstractmethod
    def result_suffixes(self, path: Path, request: ContinuationRequest) -> list[str]:
        """Suffixes of the files that a continuation of a file consists of, first the one of its own kind.

        Raises:
            UsageError: the request asks for a kind of file that the domain does not write.
        """

    @abstractmethod
    def read_prompt(self, path: Path, tokenizer: Tokenizer, request: ContinuationRequest, *, window: int) -> Prompt:
        """Read a file to be continued.

        Args:
            path: the file.
            tokenizer: of this domain.
            request: how to cut it and how much to add.
            window: how many of the prompt's last frames attention or recall will look at; those before need not be
                made.

        Raises:
            InputFileError: the file cannot be read or continued.
            UsageError: the request makes no sense for this domain or this file.
        """
