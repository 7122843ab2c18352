"""Where a run is reported: CSV, TensorBoard, Weights & Biases."""
