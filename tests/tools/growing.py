"""What tests add to an index and remove from it: images of the digits, old and new, and indexes of every kind."""

from knnvote.data.sample import digits

IMAGES, LABELS = (array[:160] for array in digits())
OLD, NEW = slice(0, 100), slice(100, 160)
KINDS = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "hnsw": {"kind": "hnsw"},
    "factory": {"kind": "factory", "factory": "PCA8,Flat"},
}
