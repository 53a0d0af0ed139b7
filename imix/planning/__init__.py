"""``python -m imix plan``: what a study will cost before it is paid, and what of it is done."""
