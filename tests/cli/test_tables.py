"""Tables hold in a narrow terminal: numbers are whole, names give way in their middle, then columns are left out."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rich.console

from knnvote.classify.choosing.choose_k import choose_k
from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.compare import compare
from knnvote.classify.evaluation.suspects import find_suspects
from knnvote.classify.evaluation.threshold import choose_threshold
from knnvote.classify.look.explain import gather
from knnvote.classify.look.seen import explain_images
from knnvote.cli.tables import table as tables
from knnvote.cli.tables.comparison import print_comparison
from knnvote.cli.tables.evaluation import print_choice, print_suspects
from knnvote.cli.tables.explanation import print_explanations
from knnvote.cli.tables.table import Name, add_row, new_table, print_table, shorten
from knnvote.cli.tables.thresholds import print_threshold
from knnvote.data.layout import ImageOptions
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_arrays, index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.training import TrainingOptions

CLASSES = [f"{name} of which the name is much longer than a terminal leaves room for" for name in ("ant", "bee", "cat")]


@pytest.fixture
def terminal(monkeypatch):
    """What is printed on a terminal of so many columns, line by line."""
    stream = io.StringIO()

    def of(width):
        def console(**options):
            return rich.console.Console(**options, file=stream, width=width, force_terminal=True, no_color=True)

        monkeypatch.setattr(tables, "Console", console)
        return stream

    return of


def lines(stream):
    return rich.text.Text.from_ansi(stream.getvalue()).plain.split("\n")


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdefghij", 10, "abcdefghij"),
        ("abcdefghijk", 10, "abc...hijk"),
        ("abcdefghijk", 9, "abc...ijk"),
        ("漢字漢字漢字", 9, "漢 ... 字"),
        ("abcdef", 3, "..."),
    ],
)
def test_names_give_way_in_their_middle(text, width, shown):
    assert shorten(text, width) == shown


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_numbers_are_whole_and_columns_are_left_out_from_the_right(terminal, width):
    stream = terminal(width)
    table = new_table("", "name", "first", "second", "third", "fourth", "fifth")
    numbers = [f"{n}.{n}{n}{n}{n}" for n in range(1, 6)]
    add_row(table, Name("a/long/path/" * 9 + "x.knn"), *numbers)
    left_out = print_table(table)
    header, row = (line.rstrip() for line in lines(stream)[:2])
    assert max(len(header), len(row)) <= width
    shown = row.split()
    assert [*header.split(), *left_out] == ["name", "first", "second", "third", "fourth", "fifth"]
    assert shown[0].startswith("a/")
    assert shown[0].endswith(".knn")
    assert shown[1:] == numbers[: len(shown) - 1]
    assert len(header.split()) == len(shown) > 1
    assert (len(shown) == 6) == (width >= 60)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Of two indexes with long paths on images of classes with long names, some of them wrong."""
    folder = tmp_path_factory.mktemp("a-folder-of-which-the-name-is-longer-than-some-tables")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, 6, 6), dtype=np.uint8)
    labels = np.array(CLASSES)[images[:, :3, :3].mean(axis=(1, 2)).astype(int) * 3 // 256]
    indexes = []
    for name, options in (("exact", IndexOptions()), ("rough", IndexOptions(kind="factory", factory="IVF8,Flat"))):
        index_arrays(images[:400], labels[:400], folder / f"{name}.knn", options=options)
        indexes.append(open_index(folder / f"{name}.knn"))
    write_table(image_table(images[400:], labels[400:]), folder / "test.parquet")
    return compare(str(folder / "test.parquet"), indexes)


def test_a_comparison_at_80_columns_says_how_good_first_and_loses_no_number(terminal, comparison):
    stream = terminal(80)
    print_comparison(comparison)
    told = lines(stream)
    assert max(map(len, told)) <= 80
    first, second = comparison.indexes
    headers = [
        "100 images, k = 5",
        "worst classes",
        "commonest confusions",
        "--min-confidence",
        "beside exact search",
        "on ",
    ]
    places = [next(i for i, line in enumerate(told) if line.startswith(header)) for header in headers]
    assert places == sorted(places)
    interval = first.accuracy_interval
    wrong = round(100 * (1 - interval.value))
    good = told[places[0] + 1].split()
    balanced = f"{first.judgement.balanced_accuracy:.4f}"
    assert good[1:] == [f"{interval.value:.4f}", f"{interval.low:.4f}-{interval.high:.4f}", balanced, f"{wrong}", "100"]
    worst = first.judgement.worst_classes[0]
    assert told[places[1] + 1].startswith(worst.label[:10])
    assert told[places[1] + 1].split()[-1] == str(worst.images)
    pair, share = first.judgement.commonest_confusions[0]
    assert told[places[2] + 1].split()[-2:] == [str(pair.images), f"{share:.1%}"]
    for line, row in zip(told[places[3] + 1 :], first.coverage, strict=False):
        assert line.split()[:3] == [f"{row.threshold:.2f}", f"{row.coverage:.2%}", f"{row.accuracy.value:.4f}"]
    recall = second.recall
    assert told[places[4] + 2].split()[-3:] == [f"{recall.mean:.4f}", f"{recall.p5:.2f}", f"{recall.min:.2f}"]
    assert f"{second.images_per_second:,.0f} /s" in told[places[5] + 2]
    (difference,) = comparison.differences
    assert f"is right on {difference.only_name} image" in " ".join(told)


@pytest.mark.parametrize("width", [80, 60])
def test_no_name_of_a_class_is_broken_over_lines(terminal, tmp_path, monkeypatch, width):
    rows = [f"customers/2026/question-{row:06d}-as-it-was-asked.txt" for row in range(120)]
    images = np.random.default_rng(1).integers(0, 256, (120, 6, 6), dtype=np.uint8)
    labels = np.array(CLASSES)[np.arange(120) % 3]
    monkeypatch.chdir(tmp_path)
    table = image_table(images, labels).append_column("id", [rows])
    write_table(table, Path("in.parquet"))
    index_files("in.parquet", "x.knn", training=TrainingOptions(id_column="id"))
    classifier = Classifier.open("x.knn")
    shown = explain_images(classifier, ["in.parquet#3"], ImageOptions())
    index, rule = classifier.index, classifier.rule
    explained, threshold = gather(classifier, shown), choose_threshold(index, rule)
    for print_all, found, header, n in (
        (print_explanations, explained, "label", len(shown[0].votes)),
        (print_explanations, explained, "rank", rule.k),
        (partial(print_suspects, top=4), find_suspects(index), "rank", 4),
        (partial(print_threshold, index=index), threshold, "class", len(CLASSES)),
    ):
        stream = terminal(width)
        print_all(found)
        told = [line.rstrip() for line in lines(stream)]
        stream.truncate(0)
        first = next(place for place, line in enumerate(told) if line.startswith(f"{header} ")) + 1
        assert [bool(cells[0]) for cells in (line.split(" ") for line in told[first : first + n])] == [True] * n
        assert all("..." in line for line in told[first : first + n])  # each has a line of its own
        assert not "".join(told[first + n : first + n + 1]).startswith(" ")


def test_short_ids_of_suspects_are_whole_at_80_columns(terminal, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    ids = [f"train.parquet#{row:03d}" for row in range(60)]
    index_arrays(images, np.array(CLASSES)[np.arange(60) % 3], tmp_path / "x.knn", ids=ids)
    found, stream = find_suspects(open_index(tmp_path / "x.knn")), terminal(80)
    print_suspects(found, 4)
    assert {suspect.id for suspect in found.cases[:4]} <= {*" ".join(lines(stream)).split()}


def test_weights_without_room_in_a_narrow_terminal_are_named(terminal, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (30, 2, 2), dtype=np.uint8)
    index_arrays(images, np.arange(30) % 3, tmp_path / "x.knn")
    index = open_index(tmp_path / "x.knn")
    choice, stream = choose_k(index, max_k=2), terminal(40)
    print_choice(choice, index)
    told = " ".join(lines(stream))
    assert f"no room for {', '.join(choice.weights[3:])}: --json has all" in " ".join(told.split())
