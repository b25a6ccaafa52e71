"""A page in Prometheus' text format, as Prometheus reads it."""

import shutil
import subprocess
import sys

from . import env

# of Debian's package, whichever Python runs
sys.path.append('/usr/lib/python3/dist-packages')


class Metric:
    """A metric, and its samples."""

    def __init__(self, family):
        self.type = family.type
        self.name = family.name + ('_total' if family.type == 'counter' else '')
        self.samples = family.samples

    def labels(self):
        """The names of all labels that occur."""
        return {label for sample in self.samples for label in sample.labels}

    def _find(self, suffix, labels):
        return [sample for sample in self.samples if sample.name == self.name + suffix and
                all(sample.labels.get(label) == value for label, value in labels.items())]

    def value(self, suffix='', **labels):
        found = self._find(suffix, labels)
        assert len(found) == 1, f'{self.name}{suffix}{labels}: {len(found)} samples'
        return found[0].value

    def only(self, **labels):
        """All labels of the one sample that has these."""
        found = self._find('', labels)
        assert len(found) == 1, f'{self.name}{labels}: {len(found)} samples'
        return found[0].labels

    def values(self, by):
        return {tuple(sample.labels[label] for label in by): sample.value for sample in self.samples}


def parse(text):
    """{name: Metric}; Prometheus' own Python client judges the format, and we what it lets pass."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as error:
        raise env.Skip('the parser is missing: apt-get install python3-prometheus-client') from error
    seen = set()
    families = list(text_string_to_metric_families(text))
    for family in families:
        assert family.documentation, f'{family.name} has no HELP'
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, f'{key} is there twice'
            seen.add(key)
    metrics = [Metric(family) for family in families]
    names = [metric.name for metric in metrics]
    assert len(names) == len(set(names)), f'a metric is in two places: {names}'
    return {metric.name: metric for metric in metrics}


def check_with_promtool(text, rules):
    """By Prometheus' own rules, where its program is there: a page, and a file of alert rules."""
    if not shutil.which('promtool'):
        return
    for args, data in ((['metrics'], text), (['rules', rules], '')):
        done = subprocess.run(['promtool', 'check', *args], input=data, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, f'promtool: {done.stdout}{done.stderr}'
