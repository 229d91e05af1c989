"""Weights that ship with lazyvos; see ``MODEL_CARD.md`` beside this file."""
