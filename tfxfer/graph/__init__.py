"""What adds ops to a graph and never runs them: layers, variables, the training step, summaries."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.graph import decoding as decoding
    from tfxfer.graph import eval_step as eval_step
    from tfxfer.graph import feeds as feeds
    from tfxfer.graph import importing as importing
    from tfxfer.graph import layers as layers
    from tfxfer.graph import losses as losses
    from tfxfer.graph import mixed_precision as mixed_precision
    from tfxfer.graph import normalization as normalization
    from tfxfer.graph import optimizer_groups as optimizer_groups
    from tfxfer.graph import optimizers as optimizers
    from tfxfer.graph import own_state as own_state
    from tfxfer.graph import partitioned as partitioned
    from tfxfer.graph import preprocessing as preprocessing
    from tfxfer.graph import records as records
    from tfxfer.graph import savers as savers
    from tfxfer.graph import stage_builder as stage_builder
    from tfxfer.graph import stages as stages
    from tfxfer.graph import structure as structure
    from tfxfer.graph import summaries as summaries
    from tfxfer.graph import summary_options as summary_options
    from tfxfer.graph import sync_replicas as sync_replicas
    from tfxfer.graph import train_step as train_step
    from tfxfer.graph import traversal as traversal
    from tfxfer.graph import updates as updates
    from tfxfer.graph import variables as variables
    from tfxfer.graph import writes as writes
else:
    __getattr__, __dir__ = attach(__name__)
