"""Nearest-neighbour classification of images and vectors: an index built once, and every label explained.

What people import is here, and is imported when it is first used. The rest may change.
"""

from importlib import import_module

TYPE_CHECKING = False  # as type checkers take the name; typing takes longer to import than all else here

if TYPE_CHECKING:
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.classify.answer import Answer
    from knnvote.classify.choosing.choose_k import choose_k
    from knnvote.classify.choosing.choose_steps import choose_steps
    from knnvote.classify.classifier import Classifier
    from knnvote.classify.cluster.engine import RayEngine
    from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
    from knnvote.classify.evaluation.compare import compare
    from knnvote.classify.evaluation.distances import choose_distance
    from knnvote.classify.evaluation.suspects import find_suspects
    from knnvote.classify.evaluation.threshold import choose_threshold
    from knnvote.classify.job.output import OutputOptions
    from knnvote.classify.job.run import Summary, run_job
    from knnvote.classify.job.work import JobOptions
    from knnvote.classify.search.distance_limit import distance_limit
    from knnvote.classify.vote import Rule
    from knnvote.data.errors import KnnvoteError, OptionError
    from knnvote.data.labels.join import join_labels
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.build import IndexOptions, index_arrays, index_files
    from knnvote.indexer.folder.open import open_index
    from knnvote.indexer.grow import add_arrays, add_files, compact, relabel_ids, remove_ids
    from knnvote.indexer.index import Index
    from knnvote.indexer.training import TrainingOptions

__all__ = [
    "Answer",
    "Classifier",
    "ImageOptions",
    "Index",
    "IndexOptions",
    "JobOptions",
    "KNNVoteClassifier",
    "KNNVoteRegressor",
    "KnnvoteError",
    "OptionError",
    "OutputOptions",
    "RayEngine",
    "Rule",
    "Summary",
    "TrainingOptions",
    "Tuning",
    "add_arrays",
    "add_files",
    "choose_distance",
    "choose_k",
    "choose_steps",
    "choose_threshold",
    "compact",
    "compare",
    "distance_limit",
    "find_suspects",
    "index_arrays",
    "index_files",
    "join_labels",
    "open_index",
    "relabel_ids",
    "remove_ids",
    "run_job",
]

_MODULES = {
    "Answer": "classify.answer",
    "Classifier": "classify.classifier",
    "ImageOptions": "data.layout",
    "Index": "indexer.index",
    "IndexOptions": "indexer.build",
    "JobOptions": "classify.job.work",
    "KNNVoteClassifier": "classify.estimator",
    "KNNVoteRegressor": "classify.estimator",
    "KnnvoteError": "data.errors",
    "OptionError": "data.errors",
    "OutputOptions": "classify.job.output",
    "RayEngine": "classify.cluster.engine",
    "Rule": "classify.vote",
    "Summary": "classify.job.run",
    "TrainingOptions": "indexer.training",
    "Tuning": "classify.adaptive.tune",
    "add_arrays": "indexer.grow",
    "add_files": "indexer.grow",
    "choose_distance": "classify.evaluation.distances",
    "choose_k": "classify.choosing.choose_k",
    "choose_steps": "classify.choosing.choose_steps",
    "choose_threshold": "classify.evaluation.threshold",
    "compact": "indexer.grow",
    "compare": "classify.evaluation.compare",
    "distance_limit": "classify.search.distance_limit",
    "find_suspects": "classify.evaluation.suspects",
    "index_arrays": "indexer.build",
    "index_files": "indexer.build",
    "join_labels": "data.labels.join",
    "open_index": "indexer.folder.open",
    "relabel_ids": "indexer.grow",
    "remove_ids": "indexer.grow",
    "run_job": "classify.job.run",
}


if not TYPE_CHECKING:  # a type checker has the names from above, and would believe in any other too

    def __getattr__(name: str) -> object:
        """Import a name of the face from its module when it is first used (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module 'knnvote' has no attribute {name!r}")
        value = getattr(import_module(f"knnvote.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The names of the face."""
    return sorted(__all__)
