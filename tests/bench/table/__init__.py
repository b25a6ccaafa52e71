"""Bulkhead's speed beside its peers', as one table.

    cells.py     what a cell is: contestants that take turns, and the figures that each turn gives
    measure.py   the turns
    figures.py   medians, spreads, ratios, and how large a difference must be to count
    ring.py tap.py guests.py idle.py scale.py control.py   the cells, a group each
    output.py plot.py   text, JSON and SVG
"""
