"""Residual vector quantisation: each book codes what the ones before it have left.

Source: Juang & Gray, "Multiple stage vector quantization for speech coding", ICASSP 1982; books by k-means, codes by a
beam search over all books, as several first choices are not the best ones once their remainders are coded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["ResidualQuantizer"]

BEAM = 4
VECTORS_AT_ONCE = 2048
NUM_ITERATIONS = 10
TOO_FEW = 2
"""A code that fewer vectors want is moved to where there are many."""
JITTER = 0.01


@dataclass(frozen=True)
class ResidualQuantizer:
    """Books of codes.

    Attributes:
        books: float32 `[Q, size, D]`.
        mean: float32 `[D]`, taken off before the first book.
    """

    books: np.ndarray
    mean: np.ndarray

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Codes int64 `[Q, n]` of vectors `[n, D]`."""
        pieces = [
            self._encode_piece(vectors[start : start + VECTORS_AT_ONCE])
            for start in range(0, len(vectors), VECTORS_AT_ONCE)
        ]
        return np.concatenate(pieces).T

    def _encode_piece(self, vectors: np.ndarray) -> np.ndarray:
        """Codes `[n, Q]`: of W partial codings of each vector, W <= `BEAM`, the best extensions by one book."""
        count = len(vectors)
        rest = (vectors - self.mean)[:, None].astype(np.float32)
        codes = np.zeros((count, 1, 0), dtype=np.int64)
        for book in self.books:
            distances = _distances(rest, book) + (rest * rest).sum(axis=2, keepdims=True)
            width = min(BEAM, distances[0].size)
            flat = distances.reshape(count, -1)
            best = np.argpartition(flat, width - 1, axis=1)[:, :width]
            best = np.take_along_axis(best, np.take_along_axis(flat, best, 1).argsort(axis=1, kind="stable"), 1)
            parent, code = np.divmod(best, len(book))
            rest = np.take_along_axis(rest, parent[..., None], 1) - book[code]
            codes = np.concatenate([np.take_along_axis(codes, parent[..., None], 1), code[..., None]], axis=2)
        return codes[:, 0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Vectors float32 `[n, D]` of codes `[q, n]` of the first q books."""
        return self.mean + sum(book[row] for book, row in zip(self.books, codes, strict=False))

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        *,
        num_books: int,
        size: int,
        seed: int,
        on_book: Callable[[int, float], None] = lambda book, variance: None,
    ) -> ResidualQuantizer:
        """Learn books.

        Args:
            vectors: float32 `[n, D]`, n >= size.
            num_books, size: how many books, and how many codes each has.
            seed: decides where the codes begin.
            on_book: called with the number of books done and the mean square that is left, per dimension.
        """
        rng = np.random.default_rng(seed)
        mean = vectors.mean(axis=0)
        rest, books = vectors - mean, []
        for number in range(num_books):
            book = _k_means(rest, size, rng)
            rest = rest - book[_nearest(rest, book)]
            books.append(book)
            on_book(number + 1, float((rest**2).mean()))
        return cls(np.stack(books), mean.astype(np.float32))


def _distances(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Squared distances `[..., size]` of vectors `[..., D]`, less the vectors' own squares."""
    return (book * book).sum(axis=1) - 2 * (vectors @ book.T)


def _nearest(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    pieces = [
        _distances(vectors[start : start + VECTORS_AT_ONCE], book).argmin(axis=1)
        for start in range(0, len(vectors), VECTORS_AT_ONCE)
    ]
    return np.concatenate(pieces)


def _k_means(vectors: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm; a code without vectors goes beside one that has the most."""
    book = vectors[rng.permutation(len(vectors))[:size]].copy()
    for iteration in range(NUM_ITERATIONS):
        nearest = _nearest(vectors, book)
        counts = np.bincount(nearest, minlength=size)
        order = np.argsort(nearest, kind="stable")
        is_used = counts > 0
        starts = np.concatenate([[0], counts.cumsum()[:-1]])[is_used]
        book[is_used] = np.add.reduceat(vectors[order], starts, axis=0) / counts[is_used, None]
        lonely = np.flatnonzero(counts < TOO_FEW)
        if len(lonely) and iteration < NUM_ITERATIONS - 2:
            crowded = np.argsort(-counts, kind="stable")[: len(lonely)]
            noise = rng.standard_normal((len(lonely), vectors.shape[1])).astype(np.float32)
            book[lonely] = book[crowded] + JITTER * noise
    return book
