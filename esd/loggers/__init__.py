"""Copies of metrics.jsonl for other tools: CSV, TensorBoard, Weights & Biases, MLflow."""
