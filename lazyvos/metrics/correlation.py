"""Which uncertainty follows the true IoU? Rank correlation per object, the protocol of thesis Figure 6.5.

For each object one coefficient over the frames of its video, between a series that a tracker can know (masked entropy, a
predicted quality, ...) and the true IoU. The first frame, whose mask is given, is dropped; the last is kept. Frames on which
either number is NaN (0/0 of a prediction that vanished, say) are left out. The sign is turned for an uncertainty, not for a
quality, so 1 is best for both. A coefficient that is undefined (a constant series) is left out and counted. The box plot of a
measure shows median, quartiles and whiskers of 1.5 interquartile ranges over the objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lazyvos.metrics.pixels import as_array
from lazyvos.types import InputError

if TYPE_CHECKING:
    import pandas

Method = Literal["spearman", "pearson"]
Area = Literal["prediction", "truth", "image"]


@dataclass(frozen=True, eq=False)
class Correlations:
    """The coefficients of one measure over the objects of a data set: one box of the figure.

    Attributes
    ----------
    name: of the measure, "X-S_R" say.
    coefficients: ``float64 [n]`` in -1..1, in the order of the objects, the undefined left out.
    undefined: how many were left out.
    method, shift, quality: the options they were made with.
    """

    name: str
    coefficients: np.ndarray
    undefined: int = 0
    method: Method = "spearman"
    shift: int = 0
    quality: bool = False

    def quantile(self, share: float) -> float:
        """Quantile of the coefficients, with linear interpolation; NaN if there is none."""
        return float(np.quantile(self.coefficients, share)) if self.coefficients.size else math.nan

    @property
    def median(self) -> float:
        """Median over objects."""
        return self.quantile(0.5)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile."""
        return self.quantile(0.25), self.quantile(0.75)

    @property
    def whiskers(self) -> tuple[float, float]:
        """The outermost coefficients within 1.5 interquartile ranges of the quartiles (a quartile where none lies outside the box)."""
        low, high = self.quartiles
        reach = 1.5 * (high - low)
        inside = self.coefficients[(self.coefficients >= low - reach) & (self.coefficients <= high + reach)]
        return (min(low, float(inside.min())), max(high, float(inside.max()))) if inside.size else (math.nan, math.nan)

    @property
    def outliers(self) -> np.ndarray:
        """The coefficients beyond the whiskers, ascending."""
        low, high = self.whiskers
        return np.sort(self.coefficients[(self.coefficients < low) | (self.coefficients > high)])

    def row(self) -> pandas.Series:
        """One line of a table: objects, undefined, median, q1, q3, whiskers, outliers and options; its name is the measure's."""
        import pandas

        values = {
            "objects": len(self.coefficients), "undefined": self.undefined, "median": self.median,
            "q1": self.quartiles[0], "q3": self.quartiles[1], "whisker_low": self.whiskers[0], "whisker_high": self.whiskers[1],
            "outliers": len(self.outliers), "method": self.method, "shift": self.shift,
        }  # fmt: skip
        return pandas.Series(values, name=self.name, dtype=object)


def object_correlation(
    series: Any, iou: Any, *, quality: bool = False, method: Method = "spearman", shift: int = 0, first: int = 1
) -> float:
    """Coefficient of one object in -1..1, 1 is best; NaN where it is undefined.

    Parameters
    ----------
    series, iou: floats ``[T]`` from the object's first annotated frame on, NaN for missing; IoU in 0..1.
    quality: high ``series`` means good, so the sign is not turned.
    method: ``"spearman"`` (average ranks for ties) or ``"pearson"``.
    shift: the series at frame t is compared with the IoU at frame t + ``shift``: above 0, does it see a failure coming?
    first: frames dropped at the beginning.

    Undefined: fewer than two frames with both numbers, or one of the two constant. Raises `InputError` for series that do not
    fit, infinite values or unknown options.

    >>> object_correlation([0, 0.1, 0.5, 0.9], [1, 0.9, 0.8, 0.1])
    1.0
    """
    if method not in ("spearman", "pearson"):
        raise InputError(f"method is {method!r}; choose 'spearman' or 'pearson'")
    if first < 0:
        raise InputError(f"first is {first}; give the number of frames to drop, from 0 on")
    x, y = (as_array(v).astype(np.float64) for v in (series, iou))
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"series {x.shape} and iou {y.shape} must have one length")
    if np.isinf(x).any() or (y < 0).any() or (y > 1).any():
        raise InputError("series has an infinite value, or iou one outside 0..1; give finite numbers and shares, or NaN for none")
    x, y = x[first:], y[first:]
    if shift:
        x, y = (x[:-shift], y[shift:]) if shift > 0 else (x[-shift:], y[:shift])
    keep = ~(np.isnan(x) | np.isnan(y))
    x, y = x[keep], y[keep]
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    if method == "spearman":
        from scipy.stats import rankdata  # only here: it takes half a second to import

        x, y = rankdata(x), rankdata(y)
    x, y = ((v - v.min()) / np.ptp(v) for v in (x, y))  # in 0..1, whatever the unit
    x, y = x - x.mean(), y - y.mean()
    value = float(np.clip((x @ y) / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))
    return value if quality else -value


def correlate(
    objects: Iterable[tuple[Any, Any]],
    name: str = "",
    *,
    quality: bool = False,
    method: Method = "spearman",
    shift: int = 0,
    first: int = 1,
) -> Correlations:
    """`object_correlation` of every object of a data set; ``objects`` gives (series, IoU) of each."""
    values = np.array(
        [object_correlation(s, v, quality=quality, method=method, shift=shift, first=first) for s, v in objects], np.float64
    )
    bad = np.isnan(values)
    return Correlations(name, values[~bad], int(bad.sum()), method, shift, quality)


def correlation_table(rows: Iterable[Correlations]) -> pandas.DataFrame:
    """A table with the `Correlations.row` of each measure."""
    import pandas

    return pandas.DataFrame([row.row() for row in rows]).infer_objects()


def normalised(
    total: Any, by: Area = "prediction", *, prediction: Any = None, truth: Any = None, image: float | None = None
) -> np.ndarray:
    """Summed uncertainty of an object's region per frame, ``[T]``, divided by a size in pixels: ``float64 [T]``.

    ``by``: area of the predicted mask (as the masked entropy is by default), of the true mask, or of the image, which must be
    given under its name, ``[T]`` or one number. Where the area is 0 the value is NaN, so that a vanished
    prediction drops out of the correlation. A tracker's S_R is 0 there; S_R times the predicted area is ``total``.
    Raises `InputError` for an unknown ``by``, or an area that is missing, negative or of another length.
    """
    given = {"prediction": prediction, "truth": truth, "image": image}
    if by not in given:
        raise InputError(f"by is {by!r}; choose 'prediction', 'truth' or 'image'")
    if given[by] is None:
        raise InputError(f"{by} is missing; give the area in pixels that the sum is divided by")
    sums, area = as_array(total).astype(np.float64), as_array(given[by]).astype(np.float64)
    if area.ndim and area.shape != sums.shape:
        raise InputError(f"total {sums.shape} and {by} {area.shape} must have one length")
    if (area < 0).any():
        raise InputError(f"{by} has a negative area; give pixels, from 0 on")
    area = np.broadcast_to(area, sums.shape)
    return np.divide(sums, area, out=np.full(sums.shape, math.nan), where=area > 0)


def change(series: Any, *, forward: bool = False) -> np.ndarray:
    """Change of a series ``[T]`` from frame to frame, ``float64 [T]``.

    The method itself takes S_t - S_{t-1}, whose first value is NaN. With ``forward`` it is S_{t+1} - S_t, whose
    last value is NaN; the first, which would need the uncertainty of the given mask, is NaN as well.
    """
    s = as_array(series).astype(np.float64)
    if s.ndim != 1:
        raise InputError(f"series has shape {s.shape}; give one number a frame")
    out = np.full(s.shape, math.nan)
    if forward:
        out[1:-1] = s[2:] - s[1:-1]
    else:
        out[1:] = s[1:] - s[:-1]
    return out
