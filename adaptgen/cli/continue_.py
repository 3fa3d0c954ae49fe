"""`adaptgen continue`: the main job."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptgen.cli.common import (
    new_console,
    print_json,
    progress_bar,
    refuse_existing,
    result_file,
    result_stem,
    say,
    stages_of,
    write_new,
)
from adaptgen.errors import OutputFileError, UsageError
from adaptgen.paths import printable

if TYPE_CHECKING:
    from adaptgen.adaptation import Adapted
    from adaptgen.checkpoint import Checkpoint
    from adaptgen.domains.base import Continuation
    from adaptgen.sampling import Sampling

__all__ = ["continue_"]

LARGEST_SEED = 2**31


def continue_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to continue; its kind decides the domain.")],
    bars: Annotated[int | None, typer.Option(help="How many bars to add to music; 16 if nothing is said.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How many seconds to add; to a recording 5 if nothing is said."),
    ] = None,
    words: Annotated[int | None, typer.Option(help="How many words to add to a text; 200 if nothing is said.")] = None,
    chars: Annotated[int | None, typer.Option(help="How many characters to add instead.")] = None,
    tokens: Annotated[int | None, typer.Option(help="How many of the model's tokens to add instead.")] = None,
    from_bar: Annotated[
        int | None,
        typer.Option(
            help="Bar at which the new part begins, counted from 1; 2 or later. What the file has from there on is "
            "left out."
        ),
    ] = None,
    from_seconds: Annotated[
        float | None, typer.Option(help="Time at which the new part of a recording begins, in the same way.")
    ] = None,
    metre: Annotated[
        str | None,
        typer.Option(
            metavar="METRE",
            help="Metre of music recorded without a click, where another is found: 4/4, 3/4, 2/4 or 6/8; or `file`, to "
            "keep to the bars of the file.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=result_file,
            metavar="PATH",
            help="Name of the result; here, FILE.continued and its suffix, if not given. Of --variations the number "
            "comes before the suffix: song.continued.1.mid.",
        ),
    ] = None,
    wav: Annotated[
        bool, typer.Option(" /--no-wav", show_default=False, help="Write no sound beside the MIDI file.")
    ] = True,
    soundfont: Annotated[Path | None, typer.Option(help="SF2 or SF3 file to play the sound with.")] = None,
    codec: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Made by `adaptgen codec fit --keep-books`, to turn a recording's codes into sound."
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of a text, if it cannot be told; also against what its byte order mark says."),
    ] = None,
    picture: Annotated[bool, typer.Option("--picture", help="Also draw the result as a PNG.")] = False,
    new_only: Annotated[bool, typer.Option("--new-only", help="Write the new part alone.")] = False,
    variations: Annotated[int, typer.Option(help="How many different continuations, drawn together.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Repeats a result; drawn and shown if not given.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 safer, above 1 bolder.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the K likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that have this probability together.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop tokens with less than this share of the likeliest one's probability.")
    ] = None,
    recall: Annotated[
        bool, typer.Option(" /--no-recall", show_default=False, help="Do not go back to earlier passages of the file.")
    ] = True,
    adapt: Annotated[
        bool | None,
        typer.Option(
            "--adapt/--no-adapt",
            show_default=False,
            help="Let the model learn your file for some seconds before it goes on with it; it does so with music.",
        ),
    ] = None,
    save_adapted: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what the model has learned of your file, as a checkpoint."),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="A shipped name or a folder, such as runs/mine/best.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite results that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Continue a file.

    Sampling options that you leave out take the checkpoint's own values.

    Example: adaptgen continue song.mid --bars 16

    Example: adaptgen continue song.mid --from-bar 9 --variations 4 --temperature 0.9

    Example: adaptgen continue story.txt --words 300

    Example: adaptgen continue talk.wav --seconds 5
    """
    from adaptgen import domains

    domain = domains.for_file(file)
    from adaptgen.domains.base import MAX_VARIATIONS, ContinuationRequest

    if not 1 <= variations <= MAX_VARIATIONS:
        raise UsageError(f"--variations is {variations}", f"Give a whole number from 1 to {MAX_VARIATIONS}")
    named = output.suffix.lower() if output is not None and output.suffix.lower() in domain.suffixes else None
    request = ContinuationRequest(
        bars=bars,
        seconds=seconds,
        words=words,
        chars=chars,
        tokens=tokens,
        from_bar=from_bar,
        from_seconds=from_seconds,
        metre=metre,
        suffix=named,
        new_only=new_only,
        sound=wav,
        soundfont=soundfont,
        codec=codec,
        encoding=encoding,
        picture=picture,
    )
    suffixes = domain.result_suffixes(file, request)
    # The first is of the kind that was named, and has its suffix as the user wrote it.
    endings = suffixes if named is None else [output.suffix, *suffixes[1:]]
    stem = result_stem(output, f"{file.stem}.continued", {*suffixes, *domain.suffixes})
    paths = _result_paths(stem, endings, variations)
    refuse_existing([path for row in paths for path in row], force=force, inputs=[file])
    if save_adapted is not None:
        _check_saving(save_adapted, is_adapting=domain.adapts if adapt is None else adapt, force=force)

    # torch reads this as it is loaded: threads that wait for each other then sleep. Where another program has a core,
    # one that spins takes it from the one it waits for. Training on idle cores is faster with spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from adaptgen.checkpoint import load_checkpoint
    from adaptgen.continuation import continue_file

    loaded = load_checkpoint(checkpoint or domain.default_checkpoint, domain=domain)
    sampling = _override(loaded.sampling, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    seed = secrets.randbelow(LARGEST_SEED) if seed is None else seed
    is_shown_live = domain.is_readable and variations == 1 and not as_json and sys.stdout.isatty()
    with progress_bar(stderr=True, is_hidden=is_shown_live) as progress:
        show = stages_of(progress)
        compiling = "compiling for this processor, which takes some seconds"
        # It calls at each of some loops; a line is wanted once.
        say_compiling = cache(lambda: say(compiling, stderr=True))
        try:
            results = continue_file(
                file,
                loaded,
                request,
                sampling,
                variations=variations,
                seed=seed,
                is_recalling=recall,
                is_adapting=adapt,
                on_adapted=lambda adapted: _save_adapted(save_adapted, loaded, adapted, file),
                on_adapting=lambda share: show("adapting", int(100 * share), 100),
                on_progress=lambda share: show("continuing", int(100 * share), 100),
                on_text=_write_out if is_shown_live else lambda text: None,
                on_compiling=say_compiling if is_shown_live else lambda: show("continuing", 0, 100, compiling),
            )
        except KeyboardInterrupt:
            if is_shown_live:
                # What is said next is no part of the text.
                _write_out("\n")
            raise
    if is_shown_live:
        _write_out("\n\n")
    for result, row in zip(results, paths, strict=True):
        for path, suffix in zip(row, suffixes, strict=True):
            write_new(path, result.files[suffix], force=force)
    _report(results, paths, checkpoint=checkpoint or loaded.name, seed=seed, as_json=as_json)


def _check_saving(folder: Path, *, is_adapting: bool, force: bool) -> None:
    """Stop before any work is done if an adapted checkpoint could not be written."""
    from adaptgen.checkpoint_files import CONFIG

    if not is_adapting:
        raise UsageError(
            "--save-adapted keeps what --adapt learns, and nothing is learned", "Add --adapt, or leave it out"
        )
    if folder.exists() and not (force and (folder / CONFIG).is_file()):
        raise OutputFileError(f"{folder} exists already", "Give a new folder, or --force for another checkpoint's")
    if not folder.absolute().parent.is_dir():
        raise OutputFileError(f"{folder} cannot be written: there is no folder {folder.parent}", "Make it first")


def _save_adapted(folder: Path | None, checkpoint: Checkpoint, adapted: Adapted, file: Path) -> None:
    if folder is None:
        return
    from dataclasses import replace

    from adaptgen.checkpoint import replace_folder, save_checkpoint

    metrics = {**checkpoint.metrics, "adapted": {"from": checkpoint.name, "steps": adapted.num_steps}}
    card = (
        f"# {file.stem}\n\nThe checkpoint {checkpoint.name} after {adapted.num_steps} gradient steps on {file.name}. "
        f"Its licence is that of {checkpoint.name}, as far as the file allows.\n"
    )
    try:
        with replace_folder(folder) as partial:
            save_checkpoint(replace(checkpoint, model=adapted.model, metrics=metrics), partial, card=card)
    except OSError as error:
        raise OutputFileError(f"{folder} cannot be written: {error.strerror}", "Give another folder") from None


def _result_paths(stem: Path, endings: Sequence[str], variations: int) -> list[list[Path]]:
    """The files of each variation; of several the number comes before the suffix."""
    stems = [stem if variations == 1 else Path(f"{stem}.{number}") for number in range(1, variations + 1)]
    return [[stem.with_name(stem.name + ending) for ending in endings] for stem in stems]


def _write_out(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _override(sampling: Sampling, **options: float | int | None) -> Sampling:
    from dataclasses import replace

    return replace(sampling, **{name: value for name, value in options.items() if value is not None})


def _report(results: list[Continuation], paths: list[list[Path]], *, checkpoint: str, seed: int, as_json: bool) -> None:
    rows = [
        {**result.summary, "seed": seed, "checkpoint": checkpoint, "files": [str(path) for path in row]}
        for result, row in zip(results, paths, strict=True)
    ]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table
    from rich.text import Text

    for row in rows:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")  # file names without a space
        for key, value in row.items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(Text(key.replace("_", " "), style="bold"), Text(printable(text)))
        new_console().print(table)
        if row is not rows[-1]:
            say("")
