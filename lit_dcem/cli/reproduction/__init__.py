"""``lit-dcem reproduce``: train again what a figure of the paper is drawn from, and draw it."""
