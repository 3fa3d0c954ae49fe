"""`adaptgen train`: fit a model to a folder of files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptgen.cli.common import (
    EXIT_INTERRUPTED,
    StopSignals,
    first_process_speaks,
    print_json,
    progress_bar,
    say,
    stages_of,
)
from adaptgen.cli.dataset import bring_data
from adaptgen.paths import command_line

if TYPE_CHECKING:
    from adaptgen.config import DataConfig, Recipe
    from adaptgen.training.distributed import Ranks
    from adaptgen.training.loop import Validation
    from adaptgen.training.session import Session

__all__ = ["train"]

NUM_SKIPPED_SHOWN = 5
SAY_EVERY_SECONDS = 30
"""Where output goes to a file and nobody sees a bar."""
SPEED_MEMORY = 0.9
"""Share of the older in the running means that are shown."""


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped name such as music.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder with your files, or one file; the recipe's own if not given."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder with a copy of the published data that the recipe would fetch."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Of the run; runs/<name> if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder, as it was set.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Begin anew in a folder that holds a run.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a setting of the recipe.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Short for --set training.max_steps=N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set training.seed=N.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto (the default), cuda, mps or cpu: training.device.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and all else to stderr.")] = False,
) -> None:
    """Train a model on a folder of files, or fine-tune one.

    Example: adaptgen train music --data ~/midi --set training.max_steps=2000

    Example: adaptgen train recipes/benchmarks/text8.yaml

    Example: torchrun --nproc-per-node 2 -m adaptgen train music

    Ctrl-C stops after the step at hand and saves; --resume goes on as if it had never stopped.
    """
    from adaptgen.errors import UsageError
    from adaptgen.shipped import find_recipe

    with first_process_speaks():
        if resume and force:
            raise UsageError("--resume and --force contradict each other", "Give one of them")
        if data is not None and source is not None:
            raise UsageError("--data and --source contradict each other", "Give one of them")
        short = {"training.max_steps": steps, "training.seed": seed, "training.device": device}
        said = [*(overrides or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
        named = _read_recipe(find_recipe(recipe), said)
        folder = output or Path("runs") / named.name
        settings = _as_begun(named, folder, said, stderr=as_json) if resume else named
        if source is not None:
            settings = _with_data(settings, named.data)
        elif data is not None:
            settings = _with_data(settings, settings.data.model_copy(update={"folder": str(data), "download": None}))
        say("Loading ...", stderr=as_json)
        from adaptgen.training.distributed import join

        with join(settings.training.device) as ranks:
            session = _prepare(settings, folder, source, ranks, resume=resume, force=force, stderr=as_json)
            with StopSignals() as stop:
                is_complete = _run(session, stop, stderr=as_json)
            _finish(session, is_complete=is_complete, as_json=as_json)


def _prepare(
    settings: Recipe, folder: Path, source: Path | None, ranks: Ranks, *, resume: bool, force: bool, stderr: bool
) -> Session:
    """Bring the data, open the run, and say what it is."""
    from adaptgen.training.run_folder import check_free
    from adaptgen.training.session import Session

    with ranks.in_turn():
        if source is not None or _has_to_be_fetched(settings):
            check_free(folder, resume=resume, force=force)
            settings = _with_folder(settings, str(bring_data(settings, source, stderr=stderr)))
    with progress_bar(stderr=stderr) as bar:
        show_stage = stages_of(bar)

        def show_progress(source: str, done: int, total: int) -> None:
            show_stage(f"Reading {source}", done, total, "files")

        session = Session(settings, folder, resume=resume, force=force, on_progress=show_progress, ranks=ranks)
    _describe(session, stderr=stderr)
    return session


def _read_recipe(path: Path, overrides: list[str]) -> Recipe:
    """The recipe with what the command line says about its settings."""
    from adaptgen.errors import RecipeError, UsageError
    from adaptgen.recipe_files import load_recipe

    try:
        return load_recipe(path, overrides=overrides)
    except RecipeError as error:
        # It is the file that is wrong, or else what was said beside it.
        load_recipe(path)
        raise UsageError(error.problem.removeprefix(f"{path}: "), error.remedy) from None


def _as_begun(named: Recipe, folder: Path, overrides: list[str], *, stderr: bool) -> Recipe:
    """The settings of the run in a folder, with what the command line says about them now.

    Args:
        named: the recipe that the command line names. One of another name need not be the run's: of the run, it takes
            the data alone.
        folder: of the run.
        overrides: of this call.
        stderr: where to say what the run has otherwise than the named recipe.
    """
    from adaptgen.training.run_folder import RECIPE, differences, read_recipe

    begun = read_recipe(folder)
    if begun is None:
        return named
    if (begun.name, begun.domain) != (named.name, named.domain):
        update = {"folder": begun.data.folder, "download": begun.data.download}
        return _with_data(named, named.data.model_copy(update=update))
    if begun.data.download is None:
        # A run with data of one's own fetches none, wherever they were to come from.
        overrides = [override for override in overrides if not override.startswith("data.download.")]
    settings = _read_recipe(folder / RECIPE, overrides)
    kept = [key for key, *_ in differences(named, settings) if not key.startswith(("data.", "init_from"))]
    if kept:
        say(f"The run goes on with its own {', '.join(kept)}, not the recipe's; --set changes them.", stderr=stderr)
    return settings


def _with_data(settings: Recipe, data: DataConfig) -> Recipe:
    return settings.model_copy(update={"data": data})


def _with_folder(settings: Recipe, folder: str) -> Recipe:
    return _with_data(settings, settings.data.model_copy(update={"folder": folder}))


def _has_to_be_fetched(settings: Recipe) -> bool:
    """Whether a recipe's data are published ones and not yet, or no longer, where a run left them."""
    data = settings.data
    return data.download is not None and (data.folder is None or not Path(data.folder).is_dir())


def _describe(session: Session, *, stderr: bool) -> None:
    """Say what is about to be trained on what, and what cannot be used."""
    from adaptgen.training.run_folder import SKIPPED

    corpus, trainer = session.corpus, session.trainer
    used = corpus.num_files - len(corpus.skipped)
    say(
        f"{session.recipe.name}: {trainer.model.num_parameters:,} parameters; {used:,} files from "
        f"{session.recipe.data.folder} with {corpus.num_tokens('train'):,} tokens to train on and "
        f"{corpus.num_tokens('validation'):,} for validation",
        stderr=stderr,
    )
    if corpus.skipped:
        say(f"Skipped {len(corpus.skipped):,} of {corpus.num_files:,} files:", style="yellow", stderr=stderr)
        for name, reason in corpus.skipped[:NUM_SKIPPED_SHOWN]:
            say(f"  {name}: {reason}", stderr=stderr)
        say(f"  all of them with reasons: {session.folder / SKIPPED}", stderr=stderr)
    if not trainer.validation_batches:
        say(f"{_why_nothing_is_held_out(session)}, so the newest weights count as the best.", stderr=stderr)
    config = session.recipe.training
    held_out = corpus.num_tokens("validation")
    if trainer.validation_batches and held_out <= config.seq_len * len(trainer.checkpoint.tokenizer.vocab_sizes):
        say(
            f"The {held_out:,} tokens for validation are too few to tell well which weights are best: "
            "to choose others, make folders train and validation, or raise data.validation_share",
            style="yellow",
            stderr=stderr,
        )
    if config.warmup_steps >= config.max_steps:
        say(
            f"The learning rate never gets to {config.learning_rate:g}: training.warmup_steps is "
            f"{config.warmup_steps:,} and training.max_steps {config.max_steps:,}",
            style="yellow",
            stderr=stderr,
        )
    if session.log is not None and not session.log.has_tensorboard:
        say("TensorBoard is not installed, so there are no logs for it (pip install tensorboard).", stderr=stderr)
    if trainer.step:
        say(f"Going on after step {trainer.step:,}", stderr=stderr)
    for key, old, new in session.changes:
        say(f"  {key}: {old} -> {new}", stderr=stderr)


def _why_nothing_is_held_out(session: Session) -> str:
    from adaptgen.corpus_files import has_split_folders

    recipe, corpus = session.recipe, session.corpus
    folders = [Path(recipe.data.folder) / source.path for source in recipe.data.sources]
    if all(has_split_folders(folder) for folder in folders):
        return f"{folders[0]} has a folder train and none named validation with files that can be used"
    if recipe.data.validation_share == 0:
        return "Nothing is held out"
    if corpus.num_files - len(corpus.skipped) > 1:
        return "Of what was held out nothing can be used"
    return "There are too few files to hold one out"


def _run(session: Session, stop: StopSignals, *, stderr: bool) -> bool:
    """Train with a progress bar, or with a line now and then where nobody sees one."""
    total, mean = session.recipe.training.max_steps, {}
    held_out = ""
    with progress_bar(stderr=stderr) as bar:
        task = bar.add_task("Training", total=total, completed=session.trainer.step, status="")
        said_at = time.monotonic()

        def line() -> str:
            return f"loss {mean['loss']:.3f}{held_out}  {mean['tokens_per_second']:,.0f} tokens/s"

        def show_step(record: dict[str, float]) -> None:
            nonlocal said_at
            for key in ("loss", "tokens_per_second"):
                mean[key] = SPEED_MEMORY * mean.get(key, record[key]) + (1 - SPEED_MEMORY) * record[key]
            bar.update(task, completed=record["step"], status=line())
            if bar.disable and time.monotonic() - said_at > SAY_EVERY_SECONDS:
                said_at = time.monotonic()
                say(f"step {record['step']:,.0f} of {total:,}  {line()}", stderr=stderr)

        def show_validation(step: int, validation: Validation) -> None:
            nonlocal held_out, said_at
            said_at = time.monotonic()
            if validation.nats_per_token is not None:
                held_out = f"  validation {validation.nats_per_token:.3f}"
            bar.console.print(f"step {step:,} of {total:,}  {line()}", markup=False)

        show_stage = stages_of(bar)
        return session.run(
            on_step=show_step,
            on_validation=show_validation,
            on_recall=lambda done, total: show_stage("Fitting recall", done, total),
            should_stop=stop.is_requested,
        )


def _finish(session: Session, *, is_complete: bool, as_json: bool) -> None:
    """Say what came out and how to go on; a stopped run exits with 130. The first of several processes says it."""
    from adaptgen.training.log import CURVE
    from adaptgen.training.run_folder import RECIPE

    if session.log is None:
        raise typer.Exit(0 if is_complete else EXIT_INTERRUPTED)
    folder, trainer = session.folder, session.trainer
    best = folder / "best"
    resume = command_line(["adaptgen", "train", str(folder / RECIPE), "-o", str(folder), "--resume"])
    if as_json:
        print_json(
            {
                "is_complete": is_complete,
                "step": trainer.step,
                "tokens": trainer.tokens_seen,
                "training_seconds": session.log.training_seconds,
                "best": str(best) if best.is_dir() else None,
                "best_metrics": session.best_metrics(),
                "folder": str(folder),
                "num_files": session.corpus.num_files,
                "num_skipped": len(session.corpus.skipped),
                "resume": None if is_complete else resume,
            }
        )
    elif is_complete:
        minutes = session.log.training_seconds / 60
        say(f"Done: {trainer.step:,} steps, {trainer.tokens_seen:,} tokens, {minutes:.1f} minutes", style="green")
        example = trainer.checkpoint.domain.example_input
        say(f"Loss curve: {folder / CURVE}")
        say(f"Best weights: {best}. Try them:")
        say("  " + command_line(["adaptgen", "continue", example, "--checkpoint", str(best)]))
    if not is_complete:
        say(f"Stopped after step {trainer.step:,} and saved. Go on with:", style="yellow", stderr=as_json)
        say(f"  {resume}", stderr=as_json)
        raise typer.Exit(EXIT_INTERRUPTED)
