"""Reads the screenshots that compositors write: PNG of 8 bits a channel, not interlaced."""

import functools
import struct
import zlib


def _paeth(left, up, corner):
    guess = left + up - corner
    near_left, near_up, near_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    if near_left <= near_up and near_left <= near_corner:
        return left
    return up if near_up <= near_corner else corner


def _unfilter(kind, line, above, step):
    """One row, in place; the left neighbour is step bytes before."""
    if kind == 2:
        line[:] = bytes((a + b) & 255 for a, b in zip(line, above))
        return
    for i in range(len(line) if kind else 0):
        left = line[i - step] if i >= step else 0
        if kind == 1:
            add = left
        elif kind == 3:
            add = (left + above[i]) >> 1
        else:
            add = _paeth(left, above[i], above[i - step] if i >= step else 0)
        line[i] = (line[i] + add) & 255


class Image:
    """Rows of red, green and blue, made when they are asked for: a compositor writes the same picture as the same file."""

    def __init__(self, path):
        self.data = path.read_bytes()
        assert self.data[:8] == b'\x89PNG\r\n\x1a\n', f'{path} is no PNG'

    def _chunks(self):
        place = 8
        while place < len(self.data):
            length, kind = struct.unpack_from('>I4s', self.data, place)
            yield kind, self.data[place + 8:place + 8 + length]
            place += 12 + length

    @functools.cached_property
    def rows(self):
        packed = b''
        for kind, body in self._chunks():
            if kind == b'IHDR':
                width, _, depth, colour, _, _, interlace = struct.unpack('>IIBBBBB', body)
                assert depth == 8 and colour in (2, 6) and not interlace, body
            elif kind == b'IDAT':
                packed += body
        step = 3 if colour == 2 else 4
        return [_colours(line, step) for line in _lines(zlib.decompress(packed), width * step, step)]

    def same(self, other):
        return self.data == other.data or self.rows == other.rows

    def pixel(self, x, y):
        return self.rows[y][3 * x:3 * x + 3]

    def differing(self, other):
        """How many pixels differ."""
        if self.same(other):
            return 0
        assert len(self.rows) == len(other.rows) and len(self.rows[0]) == len(other.rows[0])
        return sum(mine[i:i + 3] != theirs[i:i + 3] for mine, theirs in zip(self.rows, other.rows) if mine != theirs
                   for i in range(0, len(mine), 3))

    def box(self, background):
        """The rectangle of what is not background: left, top, right, bottom; None if nothing is."""
        plain = background * (len(self.rows[0]) // 3)
        found = [(x // 3, y) for y, row in enumerate(self.rows) if row != plain
                 for x in range(0, len(row), 3) if row[x:x + 3] != background]
        if not found:
            return None
        xs = [x for x, _ in found]
        return min(xs), found[0][1], max(xs), found[-1][1]


def _lines(raw, length, step):
    above = bytearray(length)
    for start in range(0, len(raw), length + 1):
        line = bytearray(raw[start + 1:start + 1 + length])
        _unfilter(raw[start], line, above, step)
        above = line
        yield line


def _colours(line, step):
    """Without what is not seen."""
    if step == 4:
        line = bytearray(line)
        del line[3::4]
    return bytes(line)
