"""GPT-2's published weights in, what other programs load out: import and export."""
