"""Fine-tuning, and heads for exit tests."""
