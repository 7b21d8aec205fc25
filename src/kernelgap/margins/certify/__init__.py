"""Prove upper bounds on violations and margins, with every rounding error accounted for."""
