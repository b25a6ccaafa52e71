"""How the checks of this folder report."""


def tell(results):
    """Print pairs of a text and the list of what is wrong, in TAP."""
    results = list(results)
    print(f"1..{len(results)}")
    for number, (text, wrong) in enumerate(results, 1):
        wrong = list(wrong)
        print(f"{'not ok' if wrong else 'ok'} {number} - {text}")
        for line in wrong:
            print(f"# {line}")
