"""Pictures of 36 classes, digits and capital letters, as a person holds them: some wrongly labelled, copied or broken.

``python tests/tools/made_letters.py FOLDER [--labelled 30000] [--new 200000]`` writes

- FOLDER/labelled/CLASS/*.png: 28 x 28 grey pictures, 3% of them in the folder of another class, 1% of them copies of
  others (a tenth of these under another label), 0.2% broken;
- FOLDER/new/part-*.parquet: new ones, PNG bytes in the column ``image`` with a column ``name``; the true class is in
  FOLDER/truth.parquet by name, which no command is given before the end;
- FOLDER/truth-labelled.csv: the true class of each labelled file.
"""

import argparse
import csv
import io
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIDE = 28
WRONG, COPIES, WRONG_COPIES, BROKEN = 0.03, 0.01, 0.1, 0.002
_FONT = ImageFont.load_default(64)
_CANVAS = 96
_A_FILE = 20_000  # new pictures


def draw(label, rng):
    """A picture (28, 28) uint8 of a class: white ink on black, turned, sheared, scaled, thickened and noisy."""
    canvas = _written(label, int(rng.integers(0, 4)))
    angle, scale = rng.normal(0, 0.1), rng.uniform(0.85, 1.1)
    shear, stretch = rng.normal(0, 0.1), rng.normal(1, 0.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch, shear], [0, 1]]) * (_CANVAS / SIDE / scale * 0.9)
    shift = np.full(2, _CANVAS / 2) - matrix @ (np.full(2, SIDE / 2) + rng.normal(0, 0.5, 2))
    small = canvas.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, (*matrix[0], shift[0], *matrix[1], shift[1]), Image.Resampling.BILINEAR
    )
    ink = np.asarray(small, np.float64) * rng.uniform(0.6, 1) + rng.normal(0, 6, (SIDE, SIDE))
    return np.clip(ink, 0, 255).astype(np.uint8)


@cache
def _written(label, stroke):
    """A class in letters so thick; nobody changes the picture."""
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text(
        (_CANVAS / 2, _CANVAS / 2), label, fill=255, font=_FONT, anchor="mm", stroke_width=stroke
    )
    return canvas


def png(pixels):
    """Encoded."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_labelled(folder, n, seed=0):
    """Class folders of PNG files; the true class of each file by its relative path, and which are wrong."""
    rng = np.random.default_rng(seed)
    truth, wrong, last = {}, set(), []
    for label in CLASSES:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for number in range(n):
        label = CLASSES[rng.integers(len(CLASSES))]
        encoded = png(draw(label, rng))
        shown = label
        if last and rng.random() < COPIES:
            label, encoded = last[rng.integers(len(last))]
            shown = label if rng.random() > WRONG_COPIES else _another(label, rng)
        elif rng.random() < WRONG:
            shown = _another(label, rng)
        else:
            last = [*last[-500:], (label, encoded)]
        if rng.random() < BROKEN:
            encoded = encoded[: rng.integers(20, len(encoded) // 2)]
        path = f"{shown}/{number:06}.png"
        (folder / path).write_bytes(encoded)
        truth[path] = label
        if shown != label:
            wrong.add(path)
    return truth, wrong


def write_new(folder, n, seed=1):
    """Parquet files of pictures without labels; their names and true classes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names, truth = [f"new-{number:06}" for number in range(n)], []
    for start in range(0, n, _A_FILE):
        labels = [CLASSES[code] for code in rng.integers(len(CLASSES), size=min(_A_FILE, n - start))]
        images = [png(draw(label, rng)) for label in labels]
        table = pa.table({"name": names[start : start + len(labels)], "image": pa.array(images, pa.binary())})
        pq.write_table(table, folder / f"part-{start // _A_FILE:02}.parquet")
        truth += labels
    return names, truth


def write_pictures(folder, n, seed=1):
    """PNG files of new pictures; the true class of each by its name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(n):
        label = CLASSES[rng.integers(len(CLASSES))]
        (folder / f"{number:04}.png").write_bytes(png(draw(label, rng)))
        truth[f"{number:04}.png"] = label
    return truth


def fill_in(path, column, truth, rows):
    """The person's part: a list with the true label of its first rows by id; how many of these had another."""
    with path.open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    found = 0
    for row in listed[:rows]:
        row[column] = truth[row["id"]]
        found += row[column] != (row["label"] if column == "fix" else row["best"])
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, listed[0].keys())
        writer.writeheader()
        writer.writerows(listed)
    return found


def _another(label, rng):
    return CLASSES[(CLASSES.index(label) + rng.integers(1, len(CLASSES))) % len(CLASSES)]


def main():
    """Write all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelled", type=int, default=30_000)
    parser.add_argument("--new", type=int, default=200_000)
    given = parser.parse_args()
    truth, wrong = write_labelled(given.folder / "labelled", given.labelled)
    with (given.folder / "truth-labelled.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "label"), *truth.items()])
    names, labels = write_new(given.folder / "new", given.new)
    pq.write_table(pa.table({"name": names, "truth": labels}), given.folder / "truth.parquet")
    print(f"{len(truth):,} labelled pictures, {len(wrong):,} of them wrongly; {len(names):,} new ones")


if __name__ == "__main__":
    main()
