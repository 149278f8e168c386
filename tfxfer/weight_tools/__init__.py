"""Files of weights made from files of weights: a module for each tool, none of which imports TensorFlow."""
