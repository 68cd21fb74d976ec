"""A map of the stored images: two principal components, and the regions that nearest neighbours give there."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from knnvote.classify.search.search import check_k
from knnvote.classify.vote import Rule, class_shares
from knnvote.classify.weighting import told_class_weight
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.progress import stage
from knnvote.indexer.index import Index
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import Weights

from .figures import INK, font_families, missing_characters, new_figure, outlined, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULT_K = 15
_FITTED = 20_000  # images, and
_FITTED_VALUES = 1 << 25  # numbers of them, 256 MiB as float64, that axes and regions are found from
_DRAWN = 1_500  # more hide the regions
_SIDES = (480, 360)  # points that are asked for their region
_FOUND = 1 << 18  # neighbours of them at a time
_TINT = 0.3
_MOST_NAMED = 60
_IN_COLUMN = 30  # names of the legend
_LINE = 155  # characters below the map
_LONGEST_NAME = 12  # characters within the map
_ASPECT = 0.6  # width of a character, in heights
_LEAST_ROOM = 4  # points from the middle of a name up or down to the border of its region


@dataclass(frozen=True, kw_only=True)
class SpaceMap:
    """Stored images in the plane of their first two principal components.

    Attributes:
        points: (n, 2) places.
        codes: (n,) the class of each, as its place in class order.
        shares: of variance that each axis carries.
        extent: left, right, bottom and top of the map.
        regions: (360, 480) the class that neighbours give each place of the map, from bottom and left.
    """

    points: NDArray[np.float64]
    codes: NDArray[np.int32]
    shares: NDArray[np.float64]
    extent: tuple[float, float, float, float]
    regions: NDArray[np.int32]

    @property
    def own(self) -> float:
        """The share of the images that lie in a region of their own class: how much of the classes two axes tell."""
        left, right, bottom, top = self.extent
        sides, low = np.array(_SIDES), np.array([left, bottom])
        across, up = np.rint((self.points - low) / (np.array([right, top]) - low) * (sides - 1)).astype(np.int64).T
        return float((self.regions[up, across] == self.codes).mean())


def find_map(index: Index, *, rule: Rule, seed: int) -> SpaceMap:
    """Place stored images, all or a random sample of them, and find the regions.

    Args:
        index: of classes.
        rule: of the vote for a region, as `Rule.of_index` gives it.
        seed: of the images.

    Raises:
        OptionError: the index is one for regression, or has fewer than k images.
        KnnvoteError: its images do not differ along two axes.
    """
    check_k(index, rule.k)
    if index.n == 1:
        raise KnnvoteError(f"{index.path} holds one image, which cannot be spread on a map: index more images")
    rows = _sample(index.n, max(rule.k, min(_FITTED, _FITTED_VALUES // index.d)), seed)
    x = METRICS[index.metric].space(index.vectors[rows])
    if index.d < 2 or (x == x[0]).all():
        raise KnnvoteError(f"{index.path} holds images that are all alike, or of one pixel: there is nothing to map")
    largest = np.abs(x).max()
    x /= largest  # so that squares neither overflow nor vanish
    with stage("finding components"):
        fitted = PCA(2, svd_solver="randomized", random_state=seed).fit(x)
        points = fitted.transform(x)
    codes = index.class_codes[rows]
    extent = _extent(points)
    across, up = (np.linspace(extent[2 * axis], extent[2 * axis + 1], _SIDES[axis]) for axis in (0, 1))
    regions = np.empty(_SIDES[::-1], np.int32)
    neighbors, lines = NearestNeighbors(n_neighbors=rule.k).fit(points), max(1, _FOUND // (len(across) * rule.k))
    with stage("searching regions", len(up), "lines") as advance:
        for start in range(0, len(up), lines):
            places = np.stack(np.meshgrid(across, up[start : start + lines]), axis=-1)
            found = neighbors.kneighbors(places.reshape(-1, 2))
            for line, (D, I) in enumerate(zip(*(np.split(part, len(places)) for part in found), strict=True), start):
                distances, factors = METRICS[index.metric].from_sklearn(D * largest), rule.factors(index, rows[I])
                shares = class_shares(codes[I], distances, len(index.classes), rule.weights, factors)
                regions[line] = shares.argmax(axis=1)
            advance(len(places))
    return SpaceMap(
        points=points,
        codes=codes,
        shares=fitted.explained_variance_ratio_,
        extent=extent,
        regions=regions,
    )


def draw_map(
    index: Index, *, k: int | None = None, weights: Weights = "uniform", class_weight: Any = None, seed: int = 0
) -> "Figure":
    """Regions as tints, images as points, and names of classes within their regions.

    Args:
        index: of classes.
        k: neighbours that vote for a region; by default 15, or all images of fewer.
        weights: of their votes.
        class_weight: of the vote, as `Rule` has it; by default that of the index.
        seed: of the images drawn.

    Raises:
        OptionError, KnnvoteError: as `find_map`; or weights lack a temperature that the metric does not tell, or
            class_weight is none of the index.
    """
    _refuse_regression(index)
    k = min(DEFAULT_K, index.n) if k is None else k
    rule = Rule.of(index, k=k, weights=weights, class_weight=class_weight)
    found = find_map(index, rule=rule, seed=seed)
    names = [str(name) for name in index.classes.to_pylist()]
    figure = new_figure(9, 6.6)
    axes = figure.subplots()
    axes.imshow(_tints(found.regions), origin="lower", extent=found.extent, interpolation="nearest", aspect="equal")
    drawn = _sample(len(found.points), _DRAWN, seed)
    _draw_points(axes, found.points[drawn], found.codes[drawn], names)
    axes.set(xlim=found.extent[:2], ylim=found.extent[2:], xticks=[], yticks=[])
    for axis, share in zip(("x", "y"), found.shares, strict=True):
        order = "first" if axis == "x" else "second"
        axes.set(**{f"{axis}label": f"{order} principal component, {share:.1%} of the variance"})
    figure.suptitle(
        f"Regions of {k} nearest neighbours ({weights} weights) on two axes that carry {found.shares.sum():.1%} "
        "of the variance",
        fontsize=11,
        color=INK,
    )
    weighed = "" if rule.class_weight is None else f"Votes have {told_class_weight(rule.class_weight)}. "
    own = f"{found.own:.0%} of the images lie in a region of their own class here."
    of_all = "" if len(found.points) == index.n else f" of {index.n:,}, drawn at random"
    shown = "all shown" if len(drawn) == len(found.points) else f"{len(drawn):,} of them shown"
    told = (
        f"Axes and regions from {len(found.points):,} images{of_all}; {shown} as points. "
        f"Classification itself uses all {index.d:,} dimensions.\n{weighed}{own} "
    )
    caption = figure.supxlabel(_in_lines(told + _say_named(0, len(names))), fontsize=8, color=INK)  # as high as it gets
    with missing_characters():  # which are told of when the picture is saved
        figure.draw_without_rendering()  # lays it out
        named = _name_classes(axes, found, names)
    caption.set_text(_in_lines(told + _say_named(named, len(names))))
    return figure


def _refuse_regression(index: Index) -> None:
    if index.is_regression:
        raise OptionError(
            f"{index.path} was built for regression, which has no classes and so no regions to map: give an index of "
            f"classes ({param('draw_choice')} draws a picture of one for regression)"
        )


def _in_lines(told: str) -> str:
    """What stands below the map, in lines that it has room for."""
    return "\n".join(textwrap.fill(line, _LINE) for line in told.splitlines())


def _say_named(named: int, classes: int) -> str:
    """Which classes have a name in the map, and where the others are to be found."""
    if named == classes:
        return "Each class is named where its region has the most room."
    rest = "the legend has all" if classes <= _MOST_NAMED else "the others share their colours and have no legend"
    return f"{named:,} of {classes:,} classes, those with room for it, are named within their regions; {rest}."


def _sample(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """All of n rows, or at most so many of them, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _extent(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """A frame around all points, of the proportions of the map, with a little room."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(1.04 * np.max((high - low) / 2 / _SIDES), np.finfo(float).tiny) * np.array(_SIDES)
    left, bottom = (low + high) / 2 - half
    right, top = (low + high) / 2 + half
    return float(left), float(right), float(bottom), float(top)


def _tints(regions: NDArray[np.int32]) -> NDArray[np.float64]:
    """(height, width, 3) light colours of regions, a little darker along their borders."""
    strong = _colours(int(regions.max()) + 1)[regions]
    border = np.zeros(regions.shape, np.bool_)
    border[1:] |= regions[1:] != regions[:-1]
    border[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    tint = np.where(border, 2 * _TINT, _TINT)[..., None]
    light: NDArray[np.float64] = 1 - tint * (1 - strong)
    return light


def _colours(classes: int) -> NDArray[np.float64]:
    """(classes, 3) red, green and blue from 0 to 1."""
    codes = [style(place)[0] for place in range(classes)]
    return np.array([[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for code in codes])


def _draw_points(axes: "Axes", points: NDArray[np.float64], codes: NDArray[np.int32], names: list[str]) -> None:
    for code in np.unique(codes).tolist():
        colour, marker = style(code)
        of_class = points[codes == code]
        options: dict[str, Any] = {"color": colour, "marker": marker, "s": 12, "linewidths": 0.3, "edgecolors": INK}
        axes.scatter(of_class[:, 0], of_class[:, 1], label=str(code), **options)
    if len(names) <= _MOST_NAMED:
        columns = -(-len(names) // _IN_COLUMN)
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        legend = axes.legend(**place, frameon=False, fontsize=9, markerscale=1.5, ncols=columns, columnspacing=1)
        for text, code in zip(legend.get_texts(), np.unique(codes).tolist(), strict=True):
            text.set_parse_math(False)
            text.set_text(plain(names[code]))


def _name_classes(axes: "Axes", found: SpaceMap, names: list[str]) -> int:
    """Name classes within their regions, those with the most room first and no name over another; how many.

    The figure is laid out, so that the room that a name takes is known.
    """
    left, right, bottom, top = found.extent
    families = font_families()
    boxes: list[Any] = []
    for name, line, column in _roomiest_places(found.regions, names):
        if len(boxes) == _MOST_NAMED:
            break
        text = axes.text(
            left + (right - left) * (column + 0.5) / _SIDES[0],
            bottom + (top - bottom) * (line + 0.5) / _SIDES[1],
            name,
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            fontfamily=families,
            color=INK,
            path_effects=outlined(),
            parse_math=False,
        )
        box = text.get_window_extent()
        is_inside = all(axes.bbox.contains(*corner) for corner in box.get_points())
        if not is_inside or any(box.overlaps(other) for other in boxes):
            text.remove()
        else:
            boxes.append(box)
    return len(boxes)


def _roomiest_places(regions: NDArray[np.int32], names: list[str]) -> list[tuple[str, int, int]]:
    """Name, line and column where each class's name is the farthest from the border of its region, that first."""
    places: list[tuple[float, str, int, int]] = []
    for code, box in enumerate(find_objects(regions + 1)):
        if box is None:  # the class has no region
            continue
        name = plain(names[code], _LONGEST_NAME)
        inside = np.pad(regions[box] == code, 1)  # the frame of the map is a border too
        if inside.sum() < _LEAST_ROOM**2:
            continue
        # A distance across counts as much less as the name is wider than it is tall.
        depth = distance_transform_edt(inside, sampling=(1, 1 / (1 + _ASPECT * len(name))))[1:-1, 1:-1]
        line, column = np.unravel_index(depth.argmax(), depth.shape)
        places.append((float(depth.max()), name, box[0].start + int(line), box[1].start + int(column)))
    return [(name, line, column) for depth, name, line, column in sorted(places, reverse=True) if depth >= _LEAST_ROOM]
