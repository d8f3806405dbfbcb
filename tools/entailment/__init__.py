"""How the bundled entailment model and its pairs are made: `python -m tools.entailment.…`."""
