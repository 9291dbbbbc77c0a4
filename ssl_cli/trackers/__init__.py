"""Trackers of other makers as sinks of a run's events: TensorBoard, W&B, MLflow, trackio; none can stop a run."""
