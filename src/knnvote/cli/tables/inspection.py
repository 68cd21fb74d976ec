"""The tables of ``inspect``: an index, a job's outputs or images."""

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from knnvote.classify.weighting import told_class_weight
from knnvote.cli.spelling import as_typed
from knnvote.data.errors import spelled
from knnvote.data.layout import noun, show_shape
from knnvote.data.text import counted, show_bytes
from knnvote.indexer.codes.library import describe_kernel
from knnvote.indexer.groups.record import Groups
from knnvote.indexer.growth.told import measured_on
from knnvote.indexer.labels import show_class
from knnvote.indexer.manifest import AdaptiveSettings, ProposingSettings, SearchSettings, search_from_json
from knnvote.indexer.records.growth import Growth
from knnvote.indexer.records.weights import SampleWeight
from knnvote.indexer.rungs import Acceptance, ClassAcceptance, Interval, MeasuredLadder, Tuned, VoteDefaults

from .images import print_images
from .table import add_row, new_list, print_table

if TYPE_CHECKING:
    from knnvote.classify.vote import Rule
    from knnvote.indexer.index import Index

_TALLIED = 20
_FEW = 5  # classes that are named
CLASSES_SHOWN = 12  # of which each is told
_FEW_COPIES = 0.9  # of the images asked: they tell as much as so many, or more


def print_inspection(facts: dict[str, Any]) -> None:
    """What ``inspect`` found, on stdout."""
    if facts["type"] == "images":
        print_images(facts)
        return
    table = new_list(facts["path"])
    rows = _index_rows(facts) if facts["type"] == "index" else _job_rows(facts)
    for name, value in rows:
        add_row(table, name, value)
    print_table(table)


def _index_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    shape = show_shape(facts["shape"])
    classes = [show_class(label, facts["class_names"]) for label in facts["classes"][:20]]
    more = [f"... {len(facts['classes'])} in all"] if len(facts["classes"]) > len(classes) else []
    images = facts.get("images", facts)
    low, high = images["range"]
    bad = f"{facts['skipped']:,}"
    steps = f"{facts['vector']['step']}, to vectors of {facts['d']:,} {facts['dtype']}"
    return [
        ("kind", f"{facts['kind']}, FAISS {facts['factory'] or 'not used'}, metric {facts['metric']}"),
        (
            f"{noun(facts['shape'])}s",
            f"{facts['n']:,} of {shape}, {images['dtype']} from {low:g} to {high:g}, {bad} bad rows left out",
        ),
        *([("steps", steps)] if "images" in facts else []),
        ("labels", f"{facts['label_type']}, {facts['task']}{': ' if classes else ''}{', '.join(classes + more)}"),
        ("from", ", ".join(source["path"] for source in facts["sources"]) or "arrays"),
        *((("part", f"{rows:,} rows, by --{name}") for name, rows in facts.get("part", {}).items())),
        ("columns", f"image {facts['image_column']}, label {facts['label_column']}"),
        *([("kept", ", ".join(facts["keep"]))] if "keep" in facts else []),
        *([("groups", Groups(**facts["groups"]).told)] if "groups" in facts else []),
        *([("weights", weights_line(SampleWeight(**facts["sample_weight"])))] if "sample_weight" in facts else []),
        ("search", "; ".join(_search_lines(facts))),
        *_vote_rows(facts),
        *([("grown", "; ".join(_growth_lines(facts)))] if "growth" in facts else []),
        ("kernel", describe_kernel()),
        ("size", f"{show_bytes(facts['bytes'])}, built in {facts['timing']['build_seconds']:.1f} s"),
        ("files", ", ".join(entry["name"] for entry in facts["files"].values())),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
        ("fingerprint", facts["fingerprint"]),
    ]


def _vote_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    if not facts.get("vote"):
        return []
    vote, thing = VoteDefaults.from_json(facts["vote"]), noun(facts["shape"])
    by_class = [("by class", line) for line in class_lines(vote.acceptance, facts["class_names"], facts["path"])]
    return [("vote", "; ".join(vote_lines(vote, thing))), *by_class]


def _search_lines(facts: dict[str, Any]) -> list[str]:
    """How an index of any kind searches."""
    if facts["kind"] == "exact":
        return [
            "every stored image that a lower bound of its distance does not rule out"
            if "codes" in facts["files"]
            else "every stored image"
        ]
    settings = search_from_json(facts["kind"], facts["search"])
    if isinstance(settings, ProposingSettings):
        return [f"{settings.candidates_per_neighbor} candidates for each neighbour"]
    return tuning_lines(settings)


def _growth_lines(facts: dict[str, Any]) -> list[str]:
    """What came to an index and went, on what its promise was measured, and whether to build it afresh pays."""
    growth = Growth(**facts["growth"])
    vote = VoteDefaults.from_json(facts["vote"]) if "vote" in facts else None
    told = measured_on(growth, search_from_json(facts["kind"], facts["search"]), vote)
    return [
        growth.told,
        *([] if told is None else [told]),
        *(["knnvote compact builds it afresh, for a faster search"] if growth.is_outgrown else []),
    ]


def tuning_lines(settings: SearchSettings) -> list[str]:
    """What tuning found for an adaptive index, in words; nothing for other kinds."""
    if not isinstance(settings, AdaptiveSettings):
        return []
    tuned = settings.tuned
    if tuned is None:
        return ["not tuned: its most careful rung searches"]
    tuned_for = f"tuned for k {tuned.k} and {tuned.weights} weights"
    if tuned.ties != "nearest":
        tuned_for += f" with ties {tuned.ties}"
    if tuned.class_weight is not None:
        tuned_for += f", {told_class_weight(tuned.class_weight)}"
    if not tuned.queries and tuned.label.reached:
        return [f"{tuned_for}: exact search alone, as it was asked for or is the fastest here"]
    lines = [f"{tuned_for} on {tuned.queries:,} stored images, each left out"]
    if tuned.tolerance is not None:
        return lines + _promise(f"answers within {tuned.tolerance:.4g} of exact search's", tuned, tuned.label)
    if not tuned.label.reached and tuned.label == tuned.confidence:
        return lines + _promise("labels that are exact search's, with their confidences", tuned, tuned.label)
    return [
        *lines,
        *_promise("labels that are exact search's", tuned, tuned.label),
        *_promise("labels and confidences that are, for --min-confidence", tuned, tuned.confidence),
    ]


def weights_line(weights: SampleWeight) -> str:
    """The weights of stored images, in words."""
    held = "given by an array" if weights.column is None else f"of column {weights.column!r}"
    return f"{held}, from {weights.least:g} to {weights.most:g}: what an image's vote is multiplied by"


def vote_lines(vote: VoteDefaults | None, thing: str) -> list[str]:
    """The vote that an index of images or vectors was made for, in words; nothing where nothing was said."""
    if vote is None:
        return []
    ties = "" if vote.ties == "nearest" else f" with ties {vote.ties}"
    weighed = "" if vote.class_weight is None else f", {told_class_weight(vote.class_weight)}"
    lines = [f"made for k {vote.k} and {vote.weights} weights{ties}{weighed}"]
    lines += [] if vote.acceptance is None else acceptance_lines(vote.acceptance, thing)
    return lines if vote.max_distance is None else [*lines, vote.max_distance.told]


def acceptance_lines(found: Acceptance, thing: str) -> list[str]:
    """What is accepted of images or vectors, in words: of all, and of classes from a confidence of their own."""
    lines = [_acceptance_line(found, thing)]
    own = [one.min_confidence for one in found.by_class if one.min_confidence is not None]
    if found.by_class:
        few = [str(one.label) for one in found.by_class if one.min_confidence is None]
        told = f", from {min(own):g} to {max(own):g}" if own else ""
        if any(confidence != found.min_confidence for confidence in own):
            lines.append(f"of {len(own):,} of {len(found.by_class):,} classes from a confidence of their own{told}")
        else:
            lines.append(
                f"--by-class changes nothing: of {len(found.by_class):,} classes {len(own):,} have that of all for "
                f"their own confidence, and of {len(few):,} there is too little to tell one"
            )
        if few:
            shown = ", ".join(few[:_FEW]) + (", ..." if len(few) > _FEW else "")
            lines.append(
                f"too few answers, or too few right ones, to tell of: {shown}; the confidence of all is theirs"
            )
    return lines


def class_lines(
    found: Acceptance | None, names: list[str] | None, index: str, options: Sequence[str] = ()
) -> list[str]:
    """What is accepted of the answers that name each class, in words; none where all share one confidence.

    Of many classes those come alone that have a confidence of their own, and then the command that tells of all:
    its index, and its options of the vote where that is not the index's.
    """
    if found is None:
        return []
    of_all = found.by_class
    own = of_all if len(of_all) <= CLASSES_SHOWN else [one for one in of_all if one.coverage is not None]
    lines = [_class_line(one, names, found.target_accuracy) for one in own[:CLASSES_SHOWN]]
    if len(of_all) == len(lines):
        return lines
    asked = [index, "--target-accuracy", f"{found.target_accuracy!r}", *options, "--json"]
    command = shlex.join(["knnvote", "choose-threshold", *asked])
    return [*lines, f"{_told_more(len(own) - len(lines), len(of_all) - len(own))}: {command} tells of all"]


def typed_vote(index: "Index", rule: "Rule") -> list[str]:
    """The options of a rule's vote as they are typed; none where the vote is the index's own."""
    if rule.is_vote_of(index):
        return []
    weighed = rule.class_weight or "none"
    given = {"k": rule.k, "weights": rule.stored_weights, "ties": rule.ties}
    given["class-weight"] = weighed if isinstance(weighed, str) else "FILE"
    own = index.vote
    is_own = {"ties": rule.ties == own.ties, "class-weight": rule.class_weight == own.class_weight}
    return [word for name, value in given.items() if not is_own.get(name) for word in (f"--{name}", str(value))]


def _told_more(own: int, too_few: int) -> str:
    """How many more classes than are shown have a confidence of their own, and how many have none."""
    more = [f"{own:,} more classes have a confidence of their own"] if own else []
    if own == 1:
        more = ["1 more class has a confidence of its own"]
    if too_few:
        have = "class has" if too_few == 1 else "classes have"
        more.append(f"{too_few:,} {have} too few answers, or too few right ones, for one")
    return ", and ".join(more)


def _class_line(one: ClassAcceptance, names: list[str] | None, target: float) -> str:
    from knnvote.classify.interval import trials_to_show

    name, answers = show_class(one.label, names), counted(one.answers, "answer")
    if one.coverage is None or one.accuracy is None:
        needed = trials_to_show(target)
        few = (
            f"too few to tell, for {target:g} takes {needed:,}"
            if one.answers < needed
            else f"too few right for {target:g}"
        )
        return f"{name}: {answers}, {few}: the confidence of all is its own"
    accuracy = one.accuracy
    return (
        f"{name}: from confidence {one.min_confidence:g}, {one.coverage:.1%} of {answers}, of which "
        f"{accuracy.value:.4f} are right ({accuracy.low:.4f} to {accuracy.high:.4f})"
    )


def _acceptance_line(found: Acceptance, thing: str) -> str:
    """What a threshold accepts, in words."""
    accuracy = found.accuracy
    balanced = "" if found.balanced_accuracy is None else f"; balanced accuracy {found.balanced_accuracy:.4f}"
    if found.min_confidence is None:
        return (
            f"accepts no answer unless told: {found.target_accuracy:g} was wanted, and of the surest "
            f"{found.coverage:.1%} of {found.images:,} stored {thing}s {accuracy.value:.4f} are right, of a 95% "
            f"interval from {accuracy.low:.4f}{balanced}"
        )
    return (
        f"accepts answers with confidence {found.min_confidence:g} or more: {found.coverage:.1%} of "
        f"{found.images:,} stored {thing}s, each left out, of which {accuracy.value:.4f} are right "
        f"({accuracy.low:.4f} to {accuracy.high:.4f}; {found.target_accuracy:g} was wanted){balanced}"
    )


def _promise(of: str, tuned: Tuned, found: MeasuredLadder) -> list[str]:
    if not found.reached:
        return [f"{of}: all, by exact search alone", *_why_unreached(tuned, found.shown)]
    agreement = found.agreement
    settled = ", ".join(f"{measured.settled:.1%}" for measured in found.rungs)
    return [f"{of}: {agreement.value:.4f}, of a 95% interval from {agreement.low:.4f}; rungs settle {settled}"]


def _why_unreached(tuned: Tuned, shown: Interval | None) -> list[str]:
    """Why rungs faster than exact search do not answer, what can be shown, and what more images would buy."""
    asked, target = f"{tuned.queries:,} images asked", tuned.target_agreement
    if not tuned.queries:
        return ["nearly all stored images have many copies, or groups that leave too few others, and cannot be asked"]
    if shown is None:
        return [f"{asked} do not show that rungs reach the target {target:g}"]
    least = f"{math.floor(shown.low * 10_000) / 10_000:g}"  # rounded up it would not be shown
    independent = _for_copies(tuned.queries, shown)
    asked += "" if independent is None else f", which for the copies among them tell as much as {independent},"
    more = _what_more_would_buy(shown, target, of="" if independent is None else " that are no copies of each other")
    if shown.value < 1 and independent is None:
        asked += ","
    if shown.value == 1:
        return [
            f"even without a miss {asked} show {least}, not the target {target:g}",
            f"{more}; --target-agreement {least} is the most that these can show",
        ]
    return [
        f"faster rungs agree on {shown.value:.4f} of {asked} which shows {least}, not the target {target:g}",
        f"{more}; --target-agreement {least} can be shown",
    ]


def _for_copies(queries: int, shown: Interval) -> str | None:
    """As how many images that are no copies of each other those asked tell as much; None where few are copies."""
    from knnvote.classify.adaptive.tune import asked_to_show

    independent = asked_to_show(shown, shown.low)
    return None if independent is None or independent > _FEW_COPIES * queries else _about(independent)


def _what_more_would_buy(shown: Interval, target: float, *, of: str) -> str:
    from knnvote.classify.adaptive.tune import MOST_ASKED, asked_to_show, stored_to_ask

    asked = asked_to_show(shown, target)
    if asked is None:
        return "to ask more images would not change that"
    stored = stored_to_ask(asked, target)
    if stored is None:
        return f"to show it takes {_about(asked)}{of}, and {MOST_ASKED:,} are asked at most"
    told = f"to show it, and so be faster than exact search, takes {_about(asked)}{of}"
    return f"{told}, of {_about(stored)} such stored" if of else f"{told}, of {_about(stored)} stored"


def _about(n: int) -> str:
    """A number to two digits."""
    return f"about {round(n, 2 - len(str(n))):,}"


def _job_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    options = {name: value for name, value in facts["options"].items() if value not in (None, False, "")}
    return [
        ("files", f"{facts['files']:,} of {facts['inputs']:,} classified, {len(facts['failures']):,} failed"),
        (
            "rows",
            f"{facts['rows']:,}: {facts['ok']:,} ok, {facts['abstained']:,} abstained, {facts['bad_image']:,} bad",
        ),
        *_tally_rows("labels", facts["labels"]),
        *_tally_rows("abstained", facts["abstained_because"]),
        *_tally_rows("bad images", facts["bad_because"]),
        ("index", facts["index"]),
        ("options", ", ".join(f"{name} {value}" for name, value in options.items())),
        *(("kept", words) for words in _kept(facts)),
        *([("left out", _left_out(facts["left_out"]))] if facts["left_out"] else []),
        *((f"failed: {path}", reason) for path, reason in facts["failures"].items()),
        *((f"part {left['part']}", _part_left(left)) for left in (facts["parts"] or {"left": []})["left"]),
    ]


def _kept(facts: dict[str, Any]) -> list[str]:
    """What a job keeps of earlier ones, a sentence for each."""
    from knnvote.classify.job.again.kept import tell_kept
    from knnvote.classify.job.receipt import Kept

    return [spelled(words, as_typed) for words in tell_kept([Kept(**job) for job in facts["kept"]], facts, facts["ok"])]


def _part_left(left: dict[str, Any]) -> str:
    from knnvote.classify.job.parts.left import STATES

    return f"{STATES[left['state']]}: {counted(left['files'], 'file')}, first {left['first']}"


def _left_out(names: list[str]) -> str:
    files = "1 file that is" if len(names) == 1 else f"{len(names):,} files that are"
    return f"{files} not of this job, the first {names[0]}: knnvote verify says why"


def _tally_rows(title: str, counts: dict[Any, int]) -> list[tuple[str, str]]:
    """The commonest values with their counts in one row, if there are any."""
    shown = [f"{value}: {times:,}" for value, times in sorted(counts.items(), key=lambda pair: -pair[1])[:_TALLIED]]
    more = [f"... {len(counts):,} in all"] if len(counts) > len(shown) else []
    return [(title, "; ".join(shown + more))] if shown else []
