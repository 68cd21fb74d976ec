"""Names of kinds of index, as people type them and manifests hold them; nothing heavy is imported for them."""

from typing import Literal, get_args

Kind = Literal["exact", "adaptive", "hnsw", "factory"]
KINDS: tuple[Kind, ...] = get_args(Kind)
