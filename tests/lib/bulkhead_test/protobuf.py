"""As much of protobuf's encoding as it takes to say something wrong with it: fields by number, in any order and number."""


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """An integer, bytes, text, or a message that was made of fields."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """[(number, integer or bytes)] of a message whose fields are integers, texts and messages."""
    found, at = [], 0

    def read_varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = read_varint()
        if tag & 7 == 0:
            found.append((tag >> 3, read_varint()))
        elif tag & 7 == 2:
            length = read_varint()
            found.append((tag >> 3, data[at:at + length]))
            at += length
        else:
            raise ValueError(f'wire type {tag & 7}')
    return found
