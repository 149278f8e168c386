"""The feature store: what frozen layers make of each example, computed once and kept on disk."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.store import batch_norm_folding as batch_norm_folding
    from tfxfer.store import beam as beam
    from tfxfer.store import compute as compute
    from tfxfer.store import examples as examples
    from tfxfer.store import extraction as extraction
    from tfxfer.store import features as features
    from tfxfer.store import fingerprint as fingerprint
    from tfxfer.store import graph_copy as graph_copy
    from tfxfer.store import maintenance as maintenance
    from tfxfer.store import pad_folding as pad_folding
    from tfxfer.store import precision as precision
    from tfxfer.store import precision_names as precision_names
    from tfxfer.store import provenance as provenance
    from tfxfer.store import shard_writer as shard_writer
    from tfxfer.store import shards as shards
    from tfxfer.store import store as store
    from tfxfer.store import worker_main as worker_main
    from tfxfer.store import worker_pool as worker_pool
else:
    __getattr__, __dir__ = attach(__name__)
