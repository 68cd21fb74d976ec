"""What many images cost, measured, foretold and simulated."""
