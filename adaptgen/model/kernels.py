"""The loops of decoding, compiled for the processor at hand by Numba.

Decoding a frame reads every weight, key and value once and does little with each, so what decides is how many bytes
they are and what else happens between them. Here they may be float16, widened to float32 as they are read, and a layer
is five calls.

Halves are held as uint16, since Numba has no arithmetic of float16; `widen` and `narrow` know both. Loops may be
reordered by the compiler (`fastmath`), so sums differ from torch's, and from one kind of processor to another, in their
last bits.

Dimensions as in `transformer.py`; every array is contiguous.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from adaptgen.model.compiling import compiled
from adaptgen.model.norm import MIN_ROOT_MEAN_SQUARE

__all__ = ["LARGEST_HALF", "add_mlp", "add_product", "append", "attend", "mlp", "multiply", "normalize", "project"]

FLOAT = np.float32
ZERO, ONE = FLOAT(0), FLOAT(1)
LARGEST_HALF = FLOAT(65504)
# `fastmath` knows no infinity.
LEAST = np.finfo(FLOAT).min
# A number of its own, since what is kept of compiled loops does not hear of changes in other files.
LEAST_MEAN_SQUARE = FLOAT(2.0**-23)
assert FLOAT(MIN_ROOT_MEAN_SQUARE**2) == LEAST_MEAN_SQUARE
LOG2_E, LN_2 = FLOAT(1 / math.log(2)), FLOAT(math.log(2))
LEAST_EXPONENT = FLOAT(-87)
TAYLOR = tuple(FLOAT(1 / math.factorial(power)) for power in range(6, -1, -1))
SQRT_HALF = FLOAT(math.sqrt(0.5))


@intrinsic
def widen(typing_context: Any, stored: Any) -> Any:
    """A stored number as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if signature.args[0] == types.float32:
            return value
        return builder.fpext(builder.bitcast(value, ir.HalfType()), ir.FloatType())

    return types.float32(stored), generate


@intrinsic
def narrow(typing_context: Any, number: Any, array: Any) -> Any:
    """A float32 as it is stored in an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        if signature.return_type == types.float32:
            return value
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), ir.IntType(16))

    return array.dtype(number, array), generate


@intrinsic
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@compiled
def exponential(x):
    """e^x for x <= 0, by a polynomial that the compiler can do for many x at once."""
    x = max(x, LEAST_EXPONENT)
    power = np.floor(x * LOG2_E + FLOAT(0.5))
    # |rest| < ln(2) / 2, where the Taylor polynomial is off by 2e-7.
    rest = x - power * LN_2
    value = ZERO
    for coefficient in TAYLOR:
        value = value * rest + coefficient
    return value * float_of_bits(np.int32((np.int32(power) + 127) << 23))


@compiled
def gelu(x):
    """In place, with the error function as in Abramowitz & Stegun 7.1.26, off by 1.5e-7 at most."""
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            z = abs(x[row, i]) * SQRT_HALF
            t = ONE / (ONE + FLOAT(0.3275911) * z)
            tail = FLOAT(1.061405429) * t - FLOAT(1.453152027)
            tail = (tail * t + FLOAT(1.421413741)) * t - FLOAT(0.284496736)
            tail = (tail * t + FLOAT(0.254829592)) * t
            tail *= FLOAT(0.5) * exponential(-z * z)
            x[row, i] *= ONE - tail if x[row, i] > ZERO else tail


@compiled
def normalize(x, gain):
    """`[B, C]` over its root mean square, times a gain."""
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        squares = ZERO
        for i in range(x.shape[1]):
            squares += x[row, i] * x[row, i]
        scale = ONE / math.sqrt(max(squares / FLOAT(x.shape[1]), LEAST_MEAN_SQUARE))
        for i in range(x.shape[1]):
            out[row, i] = x[row, i] * scale * gain[i]
    return out


@compiled
def dot(matrix, index, x, row):
    """Of one stored row of a matrix with one row of x."""
    total = ZERO
    for i in range(x.shape[1]):
        total += widen(matrix[index, i]) * x[row, i]
    return total


@compiled
def multiply(x, matrix):
    """`[B, out]` of rows `[B, in]` and a stored matrix `[out, in]`."""
    (num_rows, num_inputs), num_outputs = x.shape, len(matrix)
    out = np.empty((num_rows, num_outputs), FLOAT)
    # Of several rows four outputs of two are summed up at a time, as many as registers hold.
    tiled_rows = num_rows - num_rows % 2
    tiled_outputs = num_outputs - num_outputs % 4 if tiled_rows else 0
    wide = np.empty((4, num_inputs), FLOAT)
    for o in range(0, tiled_outputs, 4):
        for k in range(4):
            for i in range(num_inputs):
                wide[k, i] = widen(matrix[o + k, i])
        for r in range(0, tiled_rows, 2):
            a = b = c = d = e = f = g = h = ZERO
            for i in range(num_inputs):
                a += wide[0, i] * x[r, i]
                b += wide[1, i] * x[r, i]
                c += wide[2, i] * x[r, i]
                d += wide[3, i] * x[r, i]
                e += wide[0, i] * x[r + 1, i]
                f += wide[1, i] * x[r + 1, i]
                g += wide[2, i] * x[r + 1, i]
                h += wide[3, i] * x[r + 1, i]
            out[r, o], out[r, o + 1], out[r, o + 2], out[r, o + 3] = a, b, c, d
            out[r + 1, o], out[r + 1, o + 1], out[r + 1, o + 2], out[r + 1, o + 3] = e, f, g, h
        for r in range(tiled_rows, num_rows):
            for k in range(4):
                out[r, o + k] = dot(matrix, o + k, x, r)
    for o in range(tiled_outputs, num_outputs):
        for r in range(num_rows):
            out[r, o] = dot(matrix, o, x, r)
    return out


@compiled
def project(x, gain, matrix):
    """`[B, out]` of the stream `[B, C]` behind a norm."""
    return multiply(normalize(x, gain), matrix)


@compiled
def add_product(x, y, matrix):
    """Add the product of `[B, in]` and a matrix `[C, in]` to the stream `[B, C]`, in place."""
    product = multiply(y, matrix)
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[row, i] += product[row, i]


@compiled
def mlp(x, gain, up, down):
    """What an MLP behind a norm makes of `[B, C]`."""
    hidden = project(x, gain, up)
    gelu(hidden)
    return multiply(hidden, down)


@compiled
def add_mlp(x, gain, up, down):
    """Add an MLP behind a norm to the stream `[B, C]`, in place."""
    hidden = project(x, gain, up)
    gelu(hidden)
    add_product(x, hidden, down)


@compiled
def stored(number, array):
    """As an array stores it; what halves cannot hold is cut off, in float32 too."""
    return narrow(min(max(number, -LARGEST_HALF), LARGEST_HALF), array)


@compiled
def append(read, offset, bias, past, place, turn):
    """Put a new frame's keys and values in their place of each row's own past.

    Args:
        read: `[B, ...]`, keys `[C]` and values `[C]` from the offset on.
        bias: `[C]` of the keys.
        past: as of `attend`.
        place: among the keys of the past.
        turn: cosines and sines `[D / 2]` of the frame (arXiv:2104.09864).
    """
    (cos, sin), keys, values = turn, past[2], past[3]
    num_rows, num_heads, _, width = keys.shape
    half = width // 2
    for row in range(num_rows):
        for head in range(num_heads):
            first = head * width
            for i in range(half):
                a = read[row, offset + first + i] + bias[first + i]
                b = read[row, offset + first + half + i] + bias[first + half + i]
                keys[row, head, place, i] = stored(a * cos[i] - b * sin[i], keys)
                keys[row, head, place, half + i] = stored(b * cos[i] + a * sin[i], keys)
            values_from = offset + (num_heads + head) * width
            for i in range(width):
                values[row, head, place, i] = stored(read[row, values_from + i], values)


@compiled
def fill_queries(query, read, offset, turn):
    """`[B, D]` of a head, turned and scaled."""
    cos, sin = turn
    half = len(cos)
    scale = ONE / math.sqrt(FLOAT(2 * half))
    for row in range(len(query)):
        for i in range(half):
            a, b = read[row, offset + i] * scale, read[row, offset + half + i] * scale
            query[row, i] = a * cos[i] - b * sin[i]
            query[row, half + i] = b * cos[i] + a * sin[i]


@compiled
def softmax(shared, row, own):
    """Over `[S]` scores that are one row's among shared keys, and those of its own, in place."""
    largest, total = LEAST, ZERO
    for s in range(shared.shape[1]):
        largest = max(largest, shared[row, s])
    for s in range(len(own)):
        largest = max(largest, own[s])
    for s in range(shared.shape[1]):
        shared[row, s] = exponential(shared[row, s] - largest)
        total += shared[row, s]
    for s in range(len(own)):
        own[s] = exponential(own[s] - largest)
        total += own[s]
    for s in range(shared.shape[1]):
        shared[row, s] /= total
    for s in range(len(own)):
        own[s] /= total


@compiled
def mix_own(values, shares, mixed, row):
    """Add the sum of values `[S, D]` times their shares `[S]` to one row of `[B, D]`."""
    tiled = len(shares) - len(shares) % 4
    for s in range(0, tiled, 4):
        a, b, c, d = shares[s], shares[s + 1], shares[s + 2], shares[s + 3]
        for i in range(mixed.shape[1]):
            mixed[row, i] += (
                a * widen(values[s, i])
                + b * widen(values[s + 1, i])
                + c * widen(values[s + 2, i])
                + d * widen(values[s + 3, i])
            )
    for s in range(tiled, len(shares)):
        for i in range(mixed.shape[1]):
            mixed[row, i] += shares[s] * widen(values[s, i])


@compiled
def mix_shared(values, shares, mixed):
    """Add the sums of values `[S, D]` times the shares `[B, S]` of each row to `[B, D]`."""
    num_rows, count = shares.shape
    width, tiled = mixed.shape[1], count - count % 4
    wide = np.empty((4, width), FLOAT)
    for s in range(0, tiled, 4):
        for k in range(4):
            for i in range(width):
                wide[k, i] = widen(values[s + k, i])
        for row in range(num_rows):
            a, b, c, d = shares[row, s], shares[row, s + 1], shares[row, s + 2], shares[row, s + 3]
            for i in range(width):
                mixed[row, i] += a * wide[0, i] + b * wide[1, i] + c * wide[2, i] + d * wide[3, i]
    for s in range(tiled, count):
        for row in range(num_rows):
            for i in range(width):
                mixed[row, i] += shares[row, s] * widen(values[s, i])


@compiled
def attend(read, past, bounds, turn):
    """Attention of a new frame of each row, `[B, C]`, over what is in bounds.

    Args:
        read: `[B, ...]`, of which the first C are the queries.
        past: keys and values `[H, S, D]` that all rows share, and each row's own, `[B, H, S, D]`.
        bounds: the first and the end of the shared ones that are seen, and of the own ones.
        turn: as of `append`.
    """
    shared_keys, shared_values, keys, values = past
    first_shared, end_shared, first, end = bounds
    num_rows, num_heads, _, width = keys.shape
    out = np.empty((num_rows, num_heads * width), FLOAT)
    query, mixed, own = (
        np.empty((num_rows, width), FLOAT),
        np.empty((num_rows, width), FLOAT),
        np.empty(end - first, FLOAT),
    )
    for head in range(num_heads):
        fill_queries(query, read, head * width, turn)
        mixed[:] = ZERO
        shared = multiply(query, shared_keys[head, first_shared:end_shared])
        for row in range(num_rows):
            for s in range(len(own)):
                own[s] = dot(keys[row, head], first + s, query, row)
            softmax(shared, row, own)
            mix_own(values[row, head, first:end], own, mixed, row)
        mix_shared(shared_values[head, first_shared:end_shared], shared, mixed)
        for row in range(num_rows):
            for i in range(width):
                out[row, head * width + i] = mixed[row, i]
    return out
