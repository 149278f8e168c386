"""What a run writes for TensorBoard: scalars, histograms, pictures, texts, and features for its projector."""
