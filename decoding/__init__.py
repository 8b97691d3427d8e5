"""The generation engine: settings, logits processors, sampling, caches, beams and speculation."""
