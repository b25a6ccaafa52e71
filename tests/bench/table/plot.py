"""Bars of ours against a peer, as SVG: 1 is as good as the peer, right of it is better; the scale doubles at each step."""

import math
from xml.sax.saxutils import escape

from .cells import OURS

LEFT, WIDTH, RIGHT, LINE, TOP = 350, 420, 110, 19, 58
LEAST, MOST = 1 / 8, 8
STYLE = 'text{font:12px sans-serif;fill:#222} .small{font-size:11px;fill:#555} .head{font-weight:bold}'
COLOURS = {'ahead': '#7fae6e', 'equal': '#a9b7c6', 'behind': '#d98b78'}


def _x(ratio):
    return LEFT + WIDTH * math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)


def _extremes(row, peer):
    """The ratio if one had its worst turn and the other its best, and the other way round."""
    ours, theirs = row.middles[OURS], row.middles[peer]
    found = [row.figure.ratio(ours.low, theirs.high), row.figure.ratio(ours.high, theirs.low)]
    return sorted(value for value in found if value)


def _text(x, y, words, kind='', anchor='start'):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _bar(y, row, peer, margin):
    ratio, one = row.ratio(peer), _x(1)
    says = 'equal' if max(ratio, 1 / ratio) <= 1 + margin else 'ahead' if ratio > 1 else 'behind'
    x, middle, ends = _x(ratio), y + LINE / 2, _extremes(row, peer)
    yield _text(LEFT - 8, y + 13, f'{row.cell.name}, {row.figure.name}: {peer}', anchor='end')
    yield (f'<rect x="{min(x, one):.1f}" y="{y + 3}" width="{max(abs(x - one), 1):.1f}" height="{LINE - 6}" '
           f'fill="{COLOURS[says]}"/>')
    if ends:
        yield _line(_x(ends[0]), middle, _x(ends[-1]), middle, 'stroke="#555"')
    if row.figure.goals.get(peer):
        goal = _x(row.figure.goals[peer])
        yield _line(goal, y + 1, goal, y + LINE - 1, 'stroke="#b03030" stroke-width="2"')
    unit = row.figure.unit.split()[0]
    yield _text(LEFT + WIDTH + 6, y + 13, f'{ratio:.2f} ({row.middles[OURS].median:.3g} {unit})', 'small')


def ratios(group, rows, margins):
    """A picture of the rows that have a peer; None if none has."""
    bars = [(row, peer) for row in rows for peer in row.peers() if row.ratio(peer)]
    if not bars:
        return None
    height = TOP + LINE * len(bars) + 10
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{height}" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}"'
    parts = [f'<title>{escape(group)}: ours against the peers</title>', f'<style>{STYLE}</style>',
             f'<rect width="{LEFT + WIDTH + RIGHT}" height="{height}" fill="white"/>',
             _text(8, 18, f'{group}: ours against the peer named, right of 1 is better', 'head'),
             _text(8, 34, 'red: the goal; thin line: from worst to best turns; grey: no more than what the same program differs '
                   'by itself', 'small')]
    for exponent in range(-3, 4):
        x = _x(2 ** exponent)
        parts.append(_line(x, TOP - 4, x, height - 6, f'stroke="{"#444" if exponent == 0 else "#ddd"}"'))
        parts.append(_text(x, TOP - 8, f'{2.0 ** exponent:g}', 'small', 'middle'))
    for i, (row, peer) in enumerate(bars):
        parts += _bar(TOP + LINE * i, row, peer, margins[group, row.figure.name])
    body = '\n'.join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'
