"""From a dataset to a quantised model that serves under its own name."""
