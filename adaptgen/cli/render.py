"""`adaptgen render`: MIDI to sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptgen.cli.common import print_json, refuse_existing, require_suffix, result_file, say, write_new

__all__ = ["render"]


def render(
    file: Annotated[Path, typer.Argument(metavar="FILE.mid", help="The MIDI file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", parser=result_file, metavar="PATH", help="The sound file; FILE.wav here if not given."
        ),
    ] = None,
    soundfont: Annotated[Path | None, typer.Option(help="SF2 or SF3 file to play it with.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a result that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Turn a MIDI file into sound: stereo WAV, 44.1 kHz, with the soundfont that pretty_midi ships.

    Example: adaptgen render song.mid -o song.wav
    """
    path = output or Path(f"{file.stem}.wav")
    require_suffix(path, ".wav")
    refuse_existing([path], force=force, inputs=[file])

    from adaptgen import domains

    content = domains.for_file(file).render(file, soundfont=soundfont)
    write_new(path, content, force=force)
    if as_json:
        print_json({"file": str(path), "bytes": len(content)})
    else:
        say(f"{path}: {len(content) / 1e6:.1f} MB")
