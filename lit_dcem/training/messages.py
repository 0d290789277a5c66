"""Rewrites messages of argparse, jsonargparse and Python as one sentence: the rule, then the value got."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import takewhile

LONGEST_VALUE = 160
"""a sentence shows at most this many characters of a value"""
CLASS = "must be a known class, or its path like package.Class, got"
RULES = [
    (r"Option '(.+)' is not accepted", r"Options must be known, got \1"),
    (r"Subcommand '(.+)' does not accept option '(.+)'", r"Options must be known, got \2 for \1"),
    (
        r"the following arguments are required: (fit|validate|test)\.(\w+)",
        r"\1 needs a \2: type --config FILE, got none",
    ),
    (r"the following arguments are required: (.+)", r"\1 must be given, got none"),
    (r"Key \"?(.+?)\"? is required .*", r"\1 must be given, got none"),
    (r"unrecognized arguments: (.+)", r"Every argument must be known, got \1"),
    (r"argument (?:\S+/)?([^:]+): expected (?:one|at least one) argument", r"\1 must have a value, got none"),
    (r"argument (?:\S+/)?([^:]+): invalid choice: '?(.*?)'? \(choose from (.*)\)", r"\1 must be one of \3, got \2"),
    (r"argument (?:\S+/)?([^:]+): invalid int value: '(.*)'", r"\1 must be an integer, got \2"),
    (r"argument (?:\S+/)?([^:]+): invalid float value: '(.*)'", r"\1 must be a number, got \2"),
    (r"(?:File does not exist|Path is not a file|Path does not exist): '?(.+?)'?", r"must be an existing file, got \1"),
    (r"Problems parsing config: (.+)", r"A config must be YAML, got a text that is not: \1"),
    (r"Unexpected config:\s*", "A config must map options to values, got nothing"),
    (r"Unexpected config: (.+)", r"A config must map options to values, got \1"),
    (r"Problem with given class_path '(.+?)':? (.+)", r"must be a class that can be imported and built, got \1 (\2)"),
    (r"Import path does not correspond to a subclass of (.+)", r"must be a \1, got VALUE"),
    (r"Import path (\S+) does not correspond to a subclass of (.+)", r"must be a \2, got \1"),
    (r"(?:Expected a dot import path string|Unexpected import path format):\s*", CLASS + " nothing"),
    (
        r"Type .+ expects a function or a callable class: Expected '(.+)' to be a subclass of <class '(.+)'>.*",
        r"must be a \2, got \1",
    ),
    (r"(?:Expected a dot import path string|Unexpected import path format): (.*)", CLASS + r" \1"),
    (
        r"Type .+ expects a function or a callable class: Expected a dot import path string.* Got value: (.*)",
        CLASS + r" \1",
    ),
    (
        r"Type .+ expects a function or a callable class: (.+)\. Got value: (.+)",
        r"must be a class or function that fits, got \2 (\1)",
    ),
    (
        r"Type .+ expects a function or a callable class: (.+)",
        r"must be a class or function that fits, got another (\1)",
    ),
    (r"Expected an instantiatable class, but is abstract", r"must be a class that is not abstract, got VALUE"),
    (r"Expected an instantiatable class, but (.+) is abstract", r"must be a class that is not abstract, got \1"),
    (r"Expected a tuple with (\d+) elements\. Got value: (.*)", r"must be a list of \1 values, got \2"),
    (r"(\w+)\.__init__\(\) got an unexpected keyword argument '(.+)'", r"Options must be known, got \2 for \1"),
    (r"(\w+)\.__init__\(\) missing \d+ required .*arguments?: (.+)", r"\2 must be given to \1, got none"),
    (
        r"'.+' not supported between instances of '(.+)' and '(.+)'",
        r"Settings must be of the right type, got \1 and \2",
    ),
    (
        r"unsupported operand type\(s\) for .+: '(.+)' and '(.+)'",
        r"Settings must be of the right type, got \1 and \2",
    ),
    (
        r"'utf-?\d+' codec can't decode (bytes? .+?) in position (\S+): .*",
        r"A config must be text in UTF-8, got \1 at \2",
    ),
    (
        r"You selected an invalid (\w+) name: `.+?='(.*?)'`.*?(?:names are|choices): (.*?)(?:\. Find .*)?",
        r"\1 must be one of \3, got \2",
    ),
    (
        r"`devices` selected with `(\w+)` should be .*",
        r"devices must be a number of devices from 1 on, got another for \1",
    ),
    (
        r"`Trainer\(devices='?(.*?)'?\)` value is not a valid input using \w+ accelerator",
        r"devices must be a number of devices from 1 on, got \1",
    ),
    (
        r"`(\w+)Accelerator` can not run on your system since .*: \[(.*)\]",
        r"accelerator must be one that this machine has, \2, got \1",
    ),
    (r"No supported (\w+) backend found!?", r"accelerator must be one that this machine has, got \1"),
    (
        r"You restored a checkpoint with current_epoch=(\d+), but you have set Trainer\(max_epochs=(-?\d+)\)",
        r"max_epochs must be at least \1, the epochs that the run has trained for, got \2",
    ),
    (r"(-?\d+) is not in bounds, numpy accepts from 0 to (\d+)", r"A seed must be between 0 and \2, got \1"),
]
"""Patterns of their messages, and our wording. If it begins with "must", it follows the option's name. ``VALUE`` stands
for a value that another part of the message gives."""
TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "Iterable": "a list",
    "Sequence": "a list",
    "dict": "a mapping",
    "Mapping": "a mapping",
    "NoneType": "null",
}
VAGUE = ("must be a ", "must be a class that", CLASS)
"""how less specific sentences begin, the least specific last"""
CLASS_VALUE = re.compile(r"Namespace\(class_path='([^']*)'(?:, init_args=Namespace\([^()]*\))?\)")
"""how jsonargparse shows a class with its options, where one would type the class"""
NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:|Given value|hint:|See above|Expected a path but|Subclass types|- a "
)


def one_sentence(message: str) -> str:
    """Rewrite a message as one sentence that states the option, the rule and the value.

    For each type that an option may have, jsonargparse gives a reason why the value does not fit it. Only the most
    specific reason is kept. A reason why a class does not fit comes before a list of the types; but if the value is not
    even the name of a class, and the option may be a number, the types are listed.
    """
    key, body = _key(_innermost(CLASS_VALUE.sub(r"\1", message)).strip())
    items = _items(body)
    given = re.search(r"^ *Given value: (.*)", body, re.M)
    types = [item for item in items if item.startswith(("Expected a <", "Expected a typing", "Expected a collections"))]
    said = sorted((_say(item, given[1] if given else "") for item in items if item not in types), key=_rank)
    names = _names(types)
    if names and (not said or (_rank(said[0]) == len(VAGUE) and re.search("integer|number", names))):
        said = [_of_types(names, types, given[1] if given else "")]
    whole = " ".join(body.split()) or "Something is missing"
    plain = not key and not types and set(said) <= set(items) and not NOISE.search(body)  # of other code
    sentence = whole if plain or not said else said[0]
    return _finish(_about(key, given[1] if given else "", sentence))


def _innermost(message: str) -> str:
    """The part of a message about an option inside a class, if that is why the class was refused."""
    found = re.search(r"^( *)- Problem with given class_path .*:\n(?=\s*Parser key)", message, re.M)
    if not found:
        return message
    deeper = re.compile(rf" {{{len(found[1]) + 1},}}|\s*$")
    lines = takewhile(deeper.match, message[found.end() :].splitlines())
    return _innermost(textwrap.dedent("\n".join(lines)).strip())


def _key(message: str) -> tuple[str, str]:
    """The option that a message names, or "" if it names none; and the rest of the message."""
    found = re.match(r'Parser key "([^"]+)":\s*', message)
    return (found[1], message[found.end() :]) if found else ("", message)


def _items(body: str) -> list[str]:
    """The reasons that a message gives, each once."""
    if body.startswith("Problems parsing config"):
        return [" ".join(body.split())]
    lines = [line.strip().removeprefix("- ") for line in body.splitlines()]
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].startswith("Problem with given class_path") and joined[-1].endswith(":"):
            joined[-1] += f" {line}"
        elif line and not NOISE.match(line):
            joined.append(line)
    return list(dict.fromkeys(joined))


def _say(item: str, given: str) -> str:
    """Our wording of a reason; the reason itself if no rule matches."""
    for pattern, ours in RULES:
        if found := re.fullmatch(pattern, item.rstrip(".")):
            return found.expand(ours).replace("VALUE", _short(_value(given)))
    return item


def _rank(sentence: str) -> int:
    """How vague a sentence is; 0 for the most specific ones."""
    return max((i for i, start in enumerate(VAGUE, 1) if sentence.startswith(start)), default=0)


def _of_types(names: str, types: Sequence[str], given: str) -> str:
    """The sentence about a value that has none of the types."""
    got = [found[1] for each in types if (found := re.search(r"Got value: ?(.*)", each))]
    return f"must be {names}, got {_short(got[-1] if got else _value(given)) or 'nothing'}"


def _names(types: Sequence[str]) -> str:
    """The types that an option may have, in words; empty if it may only be null."""
    names: list[str] = []
    for each in types:
        if literal := re.search(r"Literal\[(.*)\]", each):
            names += [value.strip("'\"") for value in literal[1].split(", ")]
        elif found := re.search(r"(\w+)(?:\[.*\])?(?:'>)?(?:\. Got value:.*)?$", each):
            names.append(TYPES.get(found[1], f"a {found[1]}"))
    names = [name for name in dict.fromkeys(names) if name != "null"]
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else "".join(names)


def _value(given: str) -> str:
    nested = re.match(r"NestedArg\(key='.*?', val=(.*)\)$", given)
    return nested[1].strip("'") if nested else given


def _short(value: str) -> str:
    value = " ".join(value.split())
    return value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "..."


def _about(key: str, given: str, sentence: str) -> str:
    """The sentence with the full name of its option, without the ``init_args`` in it."""
    nested = re.match(r"NestedArg\(key='(.*?)'", given)
    whole = f"{key}.{nested[1]}" if nested and key else key
    whole = re.sub(r"\.(init_args|class_path)\b", "", whole)
    if not whole:
        return sentence
    if sentence.startswith("must "):
        return f"{whole} {sentence}"
    if found := re.match(r"(Options must be known, got )([\w.]*\w)(.*)", sentence):
        return found[1] + _joined(whole, found[2]) + found[3]
    if found := re.match(r"([\w.]+(?:, [\w.]+)*)( must .*)", sentence):
        return ", ".join(_joined(whole, name) for name in found[1].split(", ")) + found[2]
    return f"{whole}: {sentence}"


def _joined(whole: str, name: str) -> str:
    return whole if f".{whole}".endswith(f".{name}") else f"{whole}.{name}"


def _finish(sentence: str) -> str:
    if sentence.startswith("must "):
        sentence = f"A setting {sentence}"
    return sentence.rstrip(". ") + "."
