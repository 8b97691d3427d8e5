"""Three commands, no import between them: verify, plan and doctor."""
