"""`adaptgen codec`: sound to codes and back, what is lost on the way, and fitting the codec to a voice."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptgen.cli.common import (
    new_console,
    print_json,
    progress_bar,
    refuse_existing,
    require_suffix,
    result_file,
    say,
    stages_of,
    write_new,
)
from adaptgen.errors import InputFileError, UsageError
from adaptgen.paths import printable

if TYPE_CHECKING:
    from adaptgen.domains.base import CodecTools, Domain

__all__ = ["app"]

SECONDS_BETWEEN_LINES = 30
"""Where no bar can be drawn."""

app = typer.Typer(help="Turn recordings into codes and back, and score or fit the codec.", no_args_is_help=True)

CodecName = Annotated[str | None, typer.Option("--codec", help="Its name; the domain's own if not given.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FOLDER", help="Of the codec; those that ship or were published if not given."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", parser=result_file, metavar="PATH", help="Name of the result.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a result that exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]


@app.command("encode")
def encode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    codec: CodecName = None,
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the codes of a recording into a safetensors file, FILE.safetensors here if not named.

    Example: adaptgen codec encode talk.wav
    """
    tools = _tools_for(file)
    path = output or Path(f"{file.stem}.safetensors")
    refuse_existing([path], force=force, inputs=[file])
    _write(path, tools.encode(file, codec=codec, weights=weights), force=force, as_json=as_json)


@app.command("decode")
def decode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `adaptgen codec encode` wrote.")],
    codebooks: Annotated[int | None, typer.Option(help="Only so many streams, the coarsest first.")] = None,
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a WAV file of codes, FILE.decoded.wav here if not named.

    Example: adaptgen codec decode talk.safetensors --codebooks 3
    """
    path = output or Path(f"{file.stem}.decoded.wav")
    require_suffix(path, ".wav")
    refuse_existing([path], force=force, inputs=[file])
    content = _domain().codec_tools.decode(file, weights=weights, num_codebooks=codebooks)
    _write(path, content, force=force, as_json=as_json)


@app.command("score")
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    codec: CodecName = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Show what a recording loses in the codec, for each number of streams.

    STOI and PESQ need the extra: pip install '.\\[score]'

    Example: adaptgen codec score talk.wav
    """
    rows = _tools_for(file).score(file, codec=codec, weights=weights)
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    new_console().print(table)


@app.command("fit")
def fit(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Recordings, anywhere below them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="For the codec's weights.")] = Path(
        "codec"
    ),
    network_steps: Annotated[
        int, typer.Option(help="How long its network is trained; with 0 a new one is left out.")
    ] = 3000,
    keep_books: Annotated[
        bool,
        typer.Option(
            "--keep-books", help="Train the shipped network further, nothing else: `continue --codec` takes the result."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="The same recordings and seed give the same codec.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fit the codec to recordings of your own; of each folder with splits the training split is taken.

    A recipe uses it with --set tokenizer.codec_weights=FOLDER; with --keep-books the shipped checkpoint does too:
    adaptgen continue talk.wav --codec FOLDER.

    Example: adaptgen codec fit ~/recordings -o my_codec
    """
    from adaptgen.config import DataConfig
    from adaptgen.corpus_files import split_files
    from adaptgen.training.memory import keep_freed_memory

    if network_steps < 0:
        raise UsageError(f"--network-steps is {network_steps}", "Give a whole number from 0 up")
    if seed < 0:
        raise UsageError(f"--seed is {seed}", "Give a whole number from 0 up")
    domain = _domain()
    paths: list[Path] = []
    for folder in folders:
        if not folder.exists():
            raise InputFileError(f"there is no folder {folder}", "Give one with recordings")
        settings = DataConfig(folder=str(folder), validation_share=0, test_share=0)
        found = [path for path, _ in split_files(folder, domain.suffixes, settings)["train"]]
        if not found:
            raise InputFileError(f"{folder} has no {domain.name} files ({', '.join(domain.suffixes)})", "Give another")
        paths += found
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UsageError(f"{output} is not empty", "Use --force to write into it, or -o for another folder")
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with progress_bar(stderr=True) as bar:
        show_stage, said = stages_of(bar), time.monotonic()

        def show(stage: str, done: int, total: int, note: str) -> None:
            nonlocal said
            if not bar.console.is_terminal and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                say(f"{stage} {done:,} of {total:,}  {note}".rstrip(), stderr=True)
            show_stage(stage, done, total, note)

        try:
            about = domain.codec_tools.fit(
                paths,
                output,
                seed=seed,
                network_steps=network_steps,
                keep_books=keep_books,
                on_progress=show,
                on_skipped=lambda path, reason: say(f"skipped {path}: {reason}", stderr=True),
            )
        except BaseException:
            if is_new:
                with suppress(OSError):
                    output.rmdir()
            raise
    if as_json:
        print_json({"folder": str(output), **about})
        return
    for name, value in about.items():
        say(f"{name.replace('_', ' '):<16}{value}")
    say(f"Written: {output}")


def _tools_for(file: Path) -> CodecTools:
    from adaptgen import domains

    domain = domains.for_file(file)
    if domain.codec_tools is None:
        raise UsageError(f"{file} is {domain.name}, which goes through no codec", "Give a recording")
    return domain.codec_tools


def _domain() -> Domain:
    """The domain that has a codec."""
    from adaptgen import domains

    return next(domain for domain in map(domains.get, domains.names()) if domain.codec_tools is not None)


def _write(path: Path, content: bytes, *, force: bool, as_json: bool) -> None:
    write_new(path, content, force=force)
    if as_json:
        print_json({"file": str(path), "bytes": len(content)})
    else:
        say(f"{printable(str(path))}: {len(content) / 1e3:.1f} kB")


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
