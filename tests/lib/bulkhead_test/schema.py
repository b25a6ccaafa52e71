"""JSON held to a JSON Schema: the part of the language that our schemas use. Anything else in a schema is an error."""

TYPES = {'object': dict, 'array': list, 'string': str, 'boolean': bool, 'integer': int}
KNOWN = {'$schema', '$defs', '$ref', 'title', 'description', 'type', 'required', 'additionalProperties', 'properties',
         'items', 'enum', 'minimum'}


def _is(value, kind):
    return isinstance(value, TYPES[kind]) and not (kind == 'integer' and isinstance(value, bool))


def mistakes_in(value, schema, root=None, place='$'):
    """What is wrong with the value, a line each."""
    root = root or schema
    unknown = set(schema) - KNOWN
    assert not unknown, f'{place}: the schema has {unknown}'
    found = []
    if '$ref' in schema:
        found += mistakes_in(value, root['$defs'][schema['$ref'].removeprefix('#/$defs/')], root, place)
    if 'type' in schema and not _is(value, schema['type']):
        return [f'{place}: {value!r} is no {schema["type"]}']
    if 'enum' in schema and value not in schema['enum']:
        found.append(f'{place}: {value!r} is none of {schema["enum"]}')
    if 'minimum' in schema and value < schema['minimum']:
        found.append(f'{place}: {value!r} is less than {schema["minimum"]}')
    for i, entry in enumerate(value if 'items' in schema else []):
        found += mistakes_in(entry, schema['items'], root, f'{place}[{i}]')
    if not isinstance(value, dict):
        return found
    properties = schema.get('properties', {})
    found += [f'{place}: has no {name}' for name in schema.get('required', []) if name not in value]
    if schema.get('additionalProperties') is False:
        found += [f'{place}: {name} is not in the schema' for name in value if name not in properties]
    for name in properties.keys() & value.keys():
        found += mistakes_in(value[name], properties[name], root, f'{place}.{name}')
    return found
