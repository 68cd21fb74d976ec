"""The loop of look, decide, mend, again on made pictures, as a person would walk it: commands, minutes, findings.

``python tests/tools/loop.py FOLDER [--labelled 30000] [--new 200000] [--target 0.95]`` makes the pictures of
`made_letters` in FOLDER, types the commands there, and stands for the person: it fills in the lists that `suspects` and
`review` write, as far as someone would look, from the truth. It fails where accepted answers are less often right than
was wanted, or more than 0.7% of the labels are left wrong.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import made_letters
import pyarrow.dataset as ds

from knnvote import open_index

LOOK_FURTHER = 1.1  # times as many suspects as are said to be wrong
REVIEWED = 300
MOST_LEFT_WRONG = 0.007


class Trial:
    """Commands that were typed in a folder, each told with its seconds."""

    def __init__(self, folder):
        self.folder, self.typed, self.start = folder, 0, time.monotonic()

    def run(self, *arguments):
        """What a command gives on stdout."""
        start = time.monotonic()
        command = [sys.executable, "-m", "knnvote", *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        self.typed += 1
        print(f"$ knnvote {' '.join(map(str, arguments))}   ({time.monotonic() - start:.1f} s)")
        print(done.stderr.rstrip())
        assert done.returncode == 0, done.stdout
        return done.stdout

    def fill_in(self, name, column, truth, rows):
        """The person's part."""
        found = made_letters.fill_in(self.folder / name, column, truth, rows)
        print(f"looked at {rows:,} rows of {name}: {found:,} were wrong")

    def accepted(self, out, truth):
        """The share of the rows that a job accepted, and the share of these that it got right."""
        files = ds.dataset(self.folder / out, exclude_invalid_files=True)
        rows = files.to_table(columns=["name", "prediction", "status"]).to_pylist()
        right = [truth[row["name"]] == row["prediction"] for row in rows if row["status"] == "ok"]
        return len(right) / len(rows), sum(right) / len(right)


def walk(folder, target, labels, truth):
    """The loop; what was found, as a line of figures each."""
    trial = Trial(folder)
    print(trial.run("inspect", "labelled")[-600:])
    trial.run("index", "labelled", "--out", "letters.knn", "--skip-bad")
    said = json.loads(trial.run("suspects", "letters.knn", "--csv", "suspects.csv", "--json"))
    estimate = said["label_errors"]
    print(f"likely wrong: {estimate}")
    trial.fill_in("suspects.csv", "fix", labels, int(LOOK_FURTHER * estimate["first"]))
    trial.run("relabel", "letters.knn", "suspects.csv")
    job = ("letters.knn", "new", "--out", "answers", "--target-accuracy", target, "--neighbors")
    trial.run("classify", *job)
    first = trial.accepted("answers", truth)
    review = ("answers", "--index", "letters.knn", "--id-column", "name", "--top", REVIEWED)
    trial.run("review", *review, "--out", "review.csv")
    trial.fill_in("review.csv", "label", truth, REVIEWED)
    trial.run("add", "letters.knn", "new", "--labels", "review.csv", "--id-column", "name", "--skip-bad")
    trial.run("classify", *job, "--overwrite")
    last = trial.accepted("answers", truth)
    index = open_index(folder / "letters.knn")
    known = {**labels, **truth}
    pairs = zip(index.ids.to_pylist(), index.labels.to_pylist(), strict=True)
    left_wrong = sum(known[id_] != label for id_, label in pairs) / index.n
    print(f"accepted {first[0]:.1%}, of which right {first[1]:.4f}; after the review {last[0]:.1%}, {last[1]:.4f}")
    print(f"labels left wrong: {left_wrong:.2%} of {index.n:,}")
    print(f"{trial.typed} commands, {(time.monotonic() - trial.start) / 60:.1f} minutes without the person's own")
    assert min(first[1], last[1]) >= target
    assert left_wrong <= MOST_LEFT_WRONG


def main():
    """Make the pictures and walk."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelled", type=int, default=30_000)
    parser.add_argument("--new", type=int, default=200_000)
    parser.add_argument("--target", type=float, default=0.95)
    given = parser.parse_args()
    labels, wrong = made_letters.write_labelled(given.folder / "labelled", given.labelled)
    print(f"{len(wrong):,} of {len(labels):,} labels are wrong")
    truth = dict(zip(*made_letters.write_new(given.folder / "new", given.new), strict=True))
    walk(given.folder, given.target, labels, truth)


if __name__ == "__main__":
    main()
