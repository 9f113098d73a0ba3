"""From corpora and tasks to batches of tensors. Fine-tuning, pre-training, evaluation and predict share them."""
