"""From a recipe to a finished run: find the data, make the model, train, and leave everything in one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from adaptgen import __version__, domains
from adaptgen.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_weights, read_metrics, save_recall
from adaptgen.checkpoint import shipped as shipped_checkpoints
from adaptgen.checkpoint_files import WEIGHTS
from adaptgen.config import Recipe
from adaptgen.errors import CheckpointError, OutputFileError, RecipeError, is_of_full_memory
from adaptgen.model import Transformer
from adaptgen.training import run_folder
from adaptgen.training.card import model_card
from adaptgen.training.corpus import find_data_folder, fit_tokenizer, read_corpus
from adaptgen.training.distributed import Ranks, choose_device
from adaptgen.training.log import RunLog
from adaptgen.training.loop import Trainer, Validation
from adaptgen.training.memory import keep_freed_memory
from adaptgen.training.recall import choose_documents, fit_recall

__all__ = ["Session", "new_checkpoint"]


class Session:
    """One run in its folder, ready to train.

    Args:
        recipe: what to do.
        folder: where everything goes.
        resume: go on with the run in the folder.
        force: begin anew although there is a run in the folder.
        on_progress: called with a source, its files tokenised so far, and all its files.
        ranks: the processes that share the run; this one alone if not given. All of them read the same folders, and
            the first one alone writes.

    Attributes:
        recipe: with paths made absolute.
        trainer: the run.
        corpus: what it trains on.
        changes: settings with which a run goes on otherwise than it was begun: keys, and old and new values.
        log: what it has done so far; None on other ranks than the first.

    Raises:
        AdaptgenError: the recipe, the data, the folder or the run to resume is not right.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        resume: bool = False,
        force: bool = False,
        on_progress: Callable[[str, int, int], None] = lambda source, done, total: None,
        ranks: Ranks | None = None,
    ) -> None:
        ranks = ranks or Ranks(choose_device(recipe.training.device))
        self.folder, self.changes, self._all_changes = folder, [], []
        self.log: RunLog | None = None
        is_new = not folder.is_dir()
        with ExitStack() as holding:
            with ranks.in_turn():
                if ranks.is_first and not is_new:
                    self._hold(holding)
                run_folder.check_free(folder, resume=resume, force=force)
                self.recipe = _resolve(recipe)
                if force:
                    run_folder.check_spared(folder, _needed(self.recipe))
                checkpoint = self._read(on_progress)
                fingerprint = self.corpus.fingerprint
                if resume:
                    self.changes = run_folder.check_fits(folder, self.recipe, corpus_fingerprint=fingerprint)
            ranks.check_same(fingerprint, what="training data")
            with _within_means(self.recipe):
                self.trainer = Trainer(self.recipe, checkpoint, self.corpus.shards, folder, card="", ranks=ranks)
            with ranks.in_turn():
                if resume:
                    self.trainer.resume()
                if ranks.is_first:
                    if is_new:
                        # Another process may have come first while this one read its corpus.
                        self._hold(holding)
                        run_folder.check_free(folder, resume=resume, force=force)
                    self._open(resume=resume, corpus_fingerprint=fingerprint)
            self._held = holding.pop_all()

    def _hold(self, holding: ExitStack) -> None:
        """Make the folder if it is not there, and keep other processes from it."""
        with _writing(self.folder, remedy="Give another folder with -o"):
            self.folder.mkdir(parents=True, exist_ok=True)
            holding.enter_context(run_folder.held(self.folder))

    def _read(self, on_progress: Callable[[str, int, int], None]) -> Checkpoint:
        """Make or load the model, and read the corpus with its tokenizer."""
        if self.recipe.training.num_threads is not None:
            torch.set_num_threads(self.recipe.training.num_threads)
        keep_freed_memory()
        with _within_means(self.recipe):
            checkpoint = new_checkpoint(self.recipe)
        self.corpus = read_corpus(self.recipe, checkpoint.domain, checkpoint.tokenizer, on_progress=on_progress)
        return checkpoint

    def _open(self, *, resume: bool, corpus_fingerprint: str) -> None:
        """Say in the folder what the run is, and open its log."""
        with _writing(self.folder, remedy="Give another folder with -o"):
            if resume:
                self._all_changes = run_folder.earlier_changes(self.folder)
            else:
                run_folder.clear(self.folder)
            self._all_changes += [
                {"step": self.trainer.step, "key": key, "old": old, "new": new} for key, old, new in self.changes
            ]
            about = {
                "adaptgen": __version__,
                "corpus_fingerprint": corpus_fingerprint,
                "num_files": self.corpus.num_files,
                "num_skipped": len(self.corpus.skipped),
                "num_parameters": self.trainer.model.num_parameters,
                "changes": self._all_changes,
            }
            run_folder.write_about(self.folder, self.recipe, about, self.corpus.skipped)
            self.log = RunLog(self.folder, step=self.trainer.step)

    def run(
        self,
        *,
        on_step: Callable[[dict[str, float]], None] = lambda record: None,
        on_validation: Callable[[int, Validation], None] = lambda step, validation: None,
        on_recall: Callable[[int, int], None] = lambda done, total: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train, and in the end fit recall; arguments and result as of `Trainer.run`.

        Args:
            on_recall: called while recall is fitted, with frames read and frames in all.

        Raises:
            RecipeError: the loss is no longer a number, or this machine cannot do what the recipe asks for.
            OutputFileError: the disk is full, or the folder may not be written any more.
        """
        if self.log is None:
            with _within_means(self.recipe):
                return self.trainer.run(should_stop=should_stop)

        def log_step(record: dict[str, float]) -> None:
            self.log.add_step(record)
            on_step(record)

        def log_validation(step: int, validation: Validation) -> None:
            self.log.add_validation(step, validation)
            self.trainer.card = model_card(
                self.recipe,
                self.trainer.checkpoint,
                self.corpus,
                self.folder,
                step=step,
                tokens_seen=self.trainer.tokens_seen,
                training_seconds=self.log.training_seconds,
                validation=validation,
                changes=self._all_changes,
            )
            on_validation(step, validation)

        remedy = "Free some space or mend its permissions, then use --resume"
        with self._held, _within_means(self.recipe), _writing(self.folder, remedy=remedy):
            try:
                is_complete = self.trainer.run(on_step=log_step, on_validation=log_validation, should_stop=should_stop)
            finally:
                self.log.close()
            if is_complete:
                self._fit_recall(on_recall)
            return is_complete

    def _fit_recall(self, on_recall: Callable[[int, int], None]) -> None:
        """For the best weights, if anything was held out that tells how."""
        sources = choose_documents([source["validation"] for source in self.corpus.shards if "validation" in source])
        if not sources:
            return
        total = sum(document.shape[1] - 1 for documents in sources for document in documents)
        done = 0

        def count(num_frames: int) -> None:
            nonlocal done
            done += num_frames
            on_recall(done, total)

        best = self.folder / "best"
        model = Transformer(self.trainer.checkpoint.model.config, self.trainer.checkpoint.tokenizer.vocab_sizes)
        load_weights(model, best / WEIGHTS)
        save_recall(best, fit_recall(model.eval(), sources, on_progress=count))

    def best_metrics(self) -> dict[str, Any]:
        """What was measured of `best/`, whichever process wrote it; empty if there is none yet."""
        return read_metrics(self.folder / "best")


def new_checkpoint(recipe: Recipe) -> Checkpoint:
    """An untrained model with a tokenizer that has learned from the recipe's files, or what the recipe starts from.

    Raises:
        InputFileError: there is too little memory for the files to learn from.
        RecipeError: domain or tokenizer options are not right, or differ from those of `init_from`.
        CheckpointError: `init_from` cannot be loaded or is of another domain.
    """
    domain = domains.get(recipe.domain)
    if recipe.init_from is None:
        tokenizer = domain.tokenizer_type.from_options(recipe.tokenizer)
        # Before the model: how many tokens there are may be among what is learned.
        fit_tokenizer(recipe, domain, tokenizer)
        torch.manual_seed(recipe.training.seed)
        return Checkpoint(
            domain, tokenizer, Transformer(recipe.model, tokenizer.vocab_sizes, dropout=recipe.training.dropout)
        )
    start = load_checkpoint(recipe.init_from)
    if start.domain is not domain:
        raise CheckpointError(
            f"init_from {recipe.init_from} is for {start.domain.name}, not for {domain.name}",
            "Give another with --set init_from=NAME",
        )
    options = start.tokenizer.to_options()
    for key, value in recipe.tokenizer.items():
        if options.get(key) != value:
            raise RecipeError(
                f"tokenizer.{key} is {value!r}, but {recipe.init_from} was trained with {options.get(key)!r}",
                "Leave the tokenizer out: init_from brings its own",
            )
    model = Transformer(start.model.config, start.tokenizer.vocab_sizes, dropout=recipe.training.dropout)
    model.load_state_dict(start.model.state_dict())
    return Checkpoint(domain, start.tokenizer, model, sampling=start.sampling, recall=start.recall)


def _resolve(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, so that it says the same in any directory."""
    data = recipe.data.model_copy(update={"folder": str(find_data_folder(recipe.data.folder))})
    init_from = recipe.init_from
    if init_from is not None:
        folder = find_checkpoint(init_from)
        init_from = init_from if init_from in shipped_checkpoints() else str(folder.resolve())
    return recipe.model_copy(update={"data": data, "init_from": init_from})


def _needed(recipe: Recipe) -> list[Path]:
    """What a run reads that its user may have put anywhere."""
    start = [] if recipe.init_from is None else [find_checkpoint(recipe.init_from)]
    return [Path(recipe.data.folder), *start]


@contextmanager
def _within_means(recipe: Recipe) -> Iterator[None]:
    """Turn what this machine lacks for a recipe, memory or a compiler, into a sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_of_full_memory(error):
            raise RecipeError(
                "there is too little memory for this model and this batch",
                "Lower training.micro_batch_size or training.batch_size, set training.checkpoint_activations=true, "
                "or lower model.model_dim",
            ) from None
        if recipe.training.compile and _is_of_the_compiler(error):
            reason = str(error).strip().splitlines()[0]
            raise RecipeError(
                f"training.compile does not work here: {reason}",
                "Install a C++ compiler such as g++, or leave training.compile out",
            ) from None
        raise


def _is_of_the_compiler(error: Exception) -> bool:
    from torch._inductor.exc import InductorError

    return isinstance(error, InductorError)


@contextmanager
def _writing(folder: Path, *, remedy: str) -> Iterator[None]:
    """Turn the errors of a full or forbidden disk into a sentence."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputFileError(f"{folder} cannot be written: {reason}", remedy) from None
