"""Findings for people: `text` for the terminal, `picture` for the eye."""
