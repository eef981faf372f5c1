"""Numbers for a receptive field: centre-surround index, orientation selectivity, and the model that fits it best.

A field is a square image F(y, x). No number depends on its scale; a field that is zero everywhere has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from bench.records.store import Record

FREQUENCIES = np.linspace(0.03, 0.3, 19)
"""Of the gratings, in cycles per pixel; above them, random initial weights outweigh what was learned."""
ORIENTATIONS = np.arange(24) * np.pi / 24
DESCRIBED = 0.5
"""Share of the variance that a model must explain to describe a field."""
OPPOSED = 0.25
"""Antagonism that a difference of Gaussians needs to have a surround, not only a centre."""
SELECTIVE = 0.2
"""Orientation selectivity that a Gabor needs to be oriented, not a round blob; white noise has 0.18 on average."""
EVALUATIONS = 100

Kind = Literal["centre-surround", "oriented", "neither"]
KINDS = ("centre-surround", "oriented", "neither", "dead")


@dataclass(frozen=True)
class Fit:
    """A model of a field, fitted by least squares.

    explained: 1 - RSS / TSS, with TSS about zero, which the models approach at a distance.
    aic: n ln(RSS / n) + 2 k for n pixels and k parameters, one of them the variance of the residuals (Akaike 1974).
    """

    image: np.ndarray
    explained: float
    aic: float


@dataclass(frozen=True)
class Numbers:
    """Numbers of one channel: both indices, its kind, and the share that the better fit explains.

    agreement: correlation of the field that ascent found with the one that noise found.
    """

    centre_surround: float
    orientation: float
    kind: Kind
    explained: float
    agreement: float


def numbers_of(record: Record) -> list[Numbers | None]:
    """The numbers of each channel of a trained run, from the field that ascent found.

    None for a dead channel: active nowhere in the probe images, or with a field that is zero everywhere.
    """
    found = record["trained"]["receptive_fields"]
    channels = zip(found["ascent"], found["noise"], found["active"], strict=True)
    return [_numbers(tuple(a), tuple(n)) if active and any(a) and any(n) else None for a, n, active in channels]


def image_of(pixels: Sequence[float]) -> np.ndarray:
    """A recorded field as a square image."""
    side = round(len(pixels) ** 0.5)
    return np.reshape(np.array(pixels, dtype=float), (side, side))


@cache
def _numbers(ascent: tuple[int, ...], noise: tuple[int, ...]) -> Numbers:
    field = image_of(ascent)
    kind, fit = describe(field)
    return Numbers(
        centre_surround=centre_surround_index(field),
        orientation=orientation_selectivity(field),
        kind=kind,
        explained=fit.explained,
        agreement=float(np.corrcoef(ascent, noise)[0, 1]),
    )


def describe(field: np.ndarray) -> tuple[Kind, Fit]:
    """The kind of the field by the model with the lower AIC, and its fit.

    "neither" if it explains less than half of the variance, or is a blob: without surround, or without orientation.
    """
    kind: Kind
    centred, oriented = fit_difference_of_gaussians(field), fit_gabor(field)
    if centred.aic < oriented.aic:
        kind, fit, shaped = "centre-surround", centred, _antagonism(centred.image) >= OPPOSED
    else:
        kind, fit, shaped = "oriented", oriented, orientation_selectivity(oriented.image) >= SELECTIVE
    return (kind if shaped and fit.explained >= DESCRIBED else "neither"), fit


def centre_surround_index(field: np.ndarray) -> float:
    """Roundness times antagonism, 0 to 1: high for a round centre in a round surround of the opposite sign.

    roundness = sum M^2 / sum F^2, the share of the energy in the rotational average M(y, x), the mean of F over the
    ring of that whole-pixel radius about the centre. antagonism = 1 - |sum M| / sum |M|: 1 if the surround balances
    the centre, 0 if nothing opposes it. The centre is the largest absolute value after smoothing by a Gaussian of
    one pixel. White noise has 0.06 on average.
    """
    row, column = _centre(field)
    y, x = np.indices(field.shape)
    ring = np.hypot(y - row, x - column).round().astype(int).ravel()
    mean = (np.bincount(ring, field.ravel()) / np.maximum(np.bincount(ring), 1))[ring]
    return float(np.square(mean).sum() / np.square(field).sum() * _antagonism(mean))


def orientation_selectivity(field: np.ndarray) -> float:
    """1 - circular variance of the responses to gratings, |sum_k R_k exp(2 i t_k)| / sum_k R_k, 0 to 1.

    R_k is the amplitude of the field's linear response to a drifting grating of orientation t_k, at the spatial
    frequency of the largest response of all (Ringach, Shapley and Hawken 2002, Orientation selectivity in macaque V1).
    White noise has 0.18 on average.
    """
    responses = _responses(field)
    best = responses[responses.max(1).argmax()]
    return float(abs(best @ np.exp(2j * ORIENTATIONS)) / best.sum())


def fit_difference_of_gaussians(field: np.ndarray) -> Fit:
    """a exp(-d^2 / 2 s^2) - b exp(-d^2 / 2 t^2), d the distance from (y0, x0): six parameters (Rodieck 1965).

    a and b, of either sign, are solved for exactly at each step.
    """

    def waves(parameters: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        y0, x0, log_s, log_t = parameters
        squared = (y - y0) ** 2 + (x - x0) ** 2
        return np.stack([np.exp(-squared / 2 * np.exp(-2 * log)) for log in (log_s, log_t)], 1)

    last = len(field) - 1
    starts = [(*_centre(field), np.log(s), np.log(ratio * s)) for s, ratio in ((1.0, 2.0), (2.0, 1.5), (2.5, 2.5))]
    return _fit(field, waves, starts, (0, 0, np.log(0.5), np.log(0.5)), (last, last, np.log(last), np.log(last)))


def fit_gabor(field: np.ndarray) -> Fit:
    """A exp(-u^2 / 2 s^2 - v^2 / 2 t^2) cos(2 pi f u + p), (u, v) = (x - x0, y - y0) rotated: eight parameters.

    A cos p and A sin p are solved for exactly at each step (Ringach 2002, Spatial structure and symmetry of simple-cell
    receptive fields in macaque primary visual cortex).
    """

    def waves(parameters: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        y0, x0, angle, frequency, log_s, log_t = parameters
        u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
        v = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
        envelope = np.exp(-(u**2) / 2 * np.exp(-2 * log_s) - v**2 / 2 * np.exp(-2 * log_t))
        wave = np.exp(2j * np.pi * frequency * u)
        return np.stack([envelope * wave.real, envelope * wave.imag], 1)

    last, responses = len(field) - 1, _responses(field)
    best, angle = np.unravel_index(responses.argmax(), responses.shape)
    starts = [
        (*_centre(field), ORIENTATIONS[angle], FREQUENCIES[best], np.log(s), np.log(t))
        for s, t in ((2.0, 2.0), (2.0, 4.0), (4.0, 2.0))
    ]
    low, high = np.log(0.5), np.log(last)
    return _fit(field, waves, starts, (0, 0, -np.inf, 0, low, low), (last, last, np.inf, 0.5, high, high))


Waves = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Maps parameters, y and x of n pixels to two images (n, 2) whose weighted sum is the model."""


def _fit(
    field: np.ndarray, waves: Waves, starts: Sequence[tuple], low: tuple[float, ...], high: tuple[float, ...]
) -> Fit:
    """The best fit of several starts, by least squares with the two weights projected out (Golub and Pereyra 1973)."""
    y, x = (axis.ravel().astype(float) for axis in np.indices(field.shape))
    pixels = field.ravel() / np.linalg.norm(field)

    def image(parameters: np.ndarray) -> np.ndarray:
        basis = waves(parameters, y, x)
        return basis @ np.linalg.lstsq(basis, pixels, rcond=1e-9)[0]

    found = [
        least_squares(
            lambda p: image(p) - pixels, start, bounds=(low, high), max_nfev=EVALUATIONS, ftol=1e-4, xtol=1e-4
        )
        for start in starts
    ]
    best = min(found, key=lambda result: result.cost)
    residual = max(2 * best.cost, np.finfo(float).eps)
    n, parameters = len(pixels), len(low) + 2
    aic = n * np.log(residual / n) + 2 * (parameters + 1)
    return Fit(image(best.x).reshape(field.shape), float(1 - residual), float(aic))


def _centre(field: np.ndarray) -> tuple[int, int]:
    smooth = np.abs(gaussian_filter(field, 1.0, mode="constant"))
    return np.unravel_index(smooth.argmax(), field.shape)


def _antagonism(image: np.ndarray) -> float:
    return float(1 - abs(image.sum()) / np.abs(image).sum())


def _responses(field: np.ndarray) -> np.ndarray:
    """Amplitudes (frequencies, orientations) of the linear response to drifting gratings."""
    return np.abs(_gratings(len(field)) @ field.ravel()).reshape(len(FREQUENCIES), len(ORIENTATIONS))


@cache
def _gratings(side: int) -> np.ndarray:
    """exp(2 pi i f (x cos t + y sin t)) over the pixels, (frequencies x orientations, pixels)."""
    y, x = (axis.ravel() for axis in np.indices((side, side)))
    along = np.outer(np.cos(ORIENTATIONS), x) + np.outer(np.sin(ORIENTATIONS), y)
    return np.exp(2j * np.pi * FREQUENCIES[:, None, None] * along).reshape(-1, side * side)
