"""How weights change: pre-training, fine-tuning and refining with one loop."""
