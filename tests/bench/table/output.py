"""The table as text and JSON."""

import json
import os
import platform
from dataclasses import asdict, dataclass

from . import plot
from .cells import OURS
from .figures import verdict


@dataclass
class About:
    """What is to be known of the run as a whole."""

    seconds: float
    quick: bool
    full_seconds: float
    lacks: str = None  # packages that could not be installed
    other: str = None

    def lines(self):
        cpus = os.cpu_count()
        yield f'{platform.machine()}, {cpus} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.1f} at the end'
        if self.quick:
            yield f'quick: these figures say nothing; a full run of these cells takes about {self.full_seconds / 60:.0f} minutes'
        else:
            yield f'took {self.seconds / 60:.0f} minutes'
        if self.lacks:
            yield self.lacks


def number(value):
    return f'{value:.3g}' if value < 1000 else f'{value:.0f}'


def span(middle):
    return f'{number(middle.median)} [{number(middle.low)}..{number(middle.high)}]' if middle else 'missing'


def line(row):
    """A row as it is told while others are still to come."""
    ratios = ''.join(f', {row.ratio(peer):.2f} of {peer}' for peer in row.peers() if row.ratio(peer))
    values = '; '.join(f'{name} {span(middle)}' for name, middle in row.middles.items() if middle)
    return f'{row.cell.group}/{row.cell.name}: {row.figure.name} in {row.figure.unit}: {values}{ratios}'


def judged(row, margin):
    """(peer, ratio, what it says) of each peer, and of a limit."""
    for peer in row.peers():
        ratio = row.ratio(peer)
        if ratio is not None:
            yield peer, ratio, verdict(ratio, row.figure.goals.get(peer), margin)
    ours = row.middles.get(OURS)
    if row.figure.limit is not None and ours:
        yield '', None, f'limit {row.figure.limit:g} ' + ('kept' if ours.median <= row.figure.limit else 'passed')


def _rows_of_group(table, margins):
    head = ('cell', 'figure', 'ours', 'peer', '', 'ratio', 'n', 'this says')
    yield head
    for row in table:
        name, what = row.cell.name, f'{row.figure.name}, {row.figure.unit}'
        ours = row.middles.get(OURS)
        if not ours and OURS not in row.missing:
            continue
        shown = False
        for peer, ratio, says in judged(row, margins[row.cell.group, row.figure.name]):
            yield (name, what, span(ours), peer, span(row.middles[peer]) if peer else '', f'{ratio:.2f}' if ratio else '',
                   str(ours.n), says)
            name = what = ''
            shown = True
        if not shown:
            yield name, what, span(ours), '', '', '', str(ours.n) if ours else '', ''


def _aligned(lines):
    lines = list(lines)
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    for cells in lines:
        yield '  '.join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()


def absent(cells):
    """What is missing, and why."""
    for row in cells:
        for name, why in row.missing.items():
            yield f'{row.cell.group}/{row.cell.name}: {name or "the cell"}: {why}'
        for note in row.cell.notes:
            yield f'{row.cell.group}/{row.cell.name}: {note}'


def groups(table):
    """{group: rows}, in their order."""
    found = {}
    for row in table:
        found.setdefault(row.cell.group, []).append(row)
    return found


def text(table, margins, about):
    lines = ['Medians of turns [lowest..highest]. Ratio: above 1, we are better.', *about.lines()]
    for group, rows in groups(table).items():
        lines += ['', f'== {group}', *_aligned(_rows_of_group(rows, margins))]
        noise = ', '.join(f'{figure} {margin * 100:.0f} %' for (name, figure), margin in margins.items()
                          if name == group and any(row.cell.twice for row in rows))
        if noise:
            lines.append(f'the same program under two names differed by at most: {noise}; less does not count')
    missing = list(dict.fromkeys(absent(table)))
    if missing:
        lines += ['', '== missing', *missing]
    return '\n'.join(lines)


def as_json(table, margins, about):
    return {
        'about': {**asdict(about), 'other': str(about.other) if about.other else None, 'lines': list(about.lines())},
        'noise': [{'group': group, 'figure': figure, 'margin': margin} for (group, figure), margin in margins.items()],
        'rows': [{
            'group': row.cell.group, 'cell': row.cell.name, 'figure': row.figure.name, 'unit': row.figure.unit,
            'better': row.figure.better, 'goals': row.figure.goals, 'limit': row.figure.limit,
            'contestants': {name: asdict(middle) for name, middle in row.middles.items() if middle},
            'judged': [{'peer': peer, 'ratio': ratio, 'says': says}
                       for peer, ratio, says in judged(row, margins[row.cell.group, row.figure.name])],
            'missing': row.missing, 'notes': row.cell.notes} for row in table],
    }


def write(folder, table, margins, about):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'table.txt').write_text(text(table, margins, about) + '\n', encoding='utf-8')
    (folder / 'table.json').write_text(json.dumps(as_json(table, margins, about), indent=1) + '\n', encoding='utf-8')
    for group, rows in groups(table).items():
        picture = plot.ratios(group, rows, margins)
        if picture:
            (folder / f'{group}.svg').write_text(picture, encoding='utf-8')
