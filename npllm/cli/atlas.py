"""``npllm atlas``."""

from __future__ import annotations

import argparse

from npllm.checking.report import aligned
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, check_known, counted
from npllm.evidence import MISTAKES
from npllm.evidence.trial import Others, Trial, try_mistake, try_others

_LAYERS = tuple(dict.fromkeys(mistake.layer for mistake in MISTAKES))

_DESCRIPTION = f"""\
The atlas of mistakes: {len(MISTAKES)} wrong backward passes, one plausible slip each, tried now.

Without a name: the table. A row is a mistake, how far its worst gradient is off by the complex
step, what the checker says is wrong, and which other checks would have let it pass ("-": they
would have rejected it):

  torch   central differences within 1e-5 + 1e-3 |numeric|, the tolerances of torch's gradcheck
  2e-2    an absolute error of 2e-2, the loss a mean over the outputs
  ones    a cotangent of ones: the gradient of a plain sum

With names: the lessons. What was written in place of what, why nothing complained, and what gives
it away; "wild" marks those found in public code.

  npllm atlas
  npllm atlas attention softmax
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "atlas", "learn from mistakes", _DESCRIPTION, _run)
    parser.add_argument("names", nargs="*", metavar="LAYER", help=f"of {', '.join(_LAYERS)}")
    add_seed(parser, "draws arguments and cotangents")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    check_known(options.names, _LAYERS)
    wanted = [m for m in MISTAKES if not options.names or m.layer in options.names]
    trials, others = [], []
    for mistake in wanted:
        trial = try_mistake(mistake, options.seed)
        if options.names:
            print(lesson(trial) + "\n", flush=True)
        trials.append(trial)
        others.append(try_others(mistake, options.seed))
    print(table(trials, others))
    return 0 if all(not trial.report.passed for trial in trials) else 1


def lesson(trial: Trial) -> str:
    """Return the mistake as something to read."""
    mistake = trial.mistake
    wild = " (wild)" if mistake.wild else ""
    lines = [
        f"{mistake.layer}, {mistake.label}: {mistake.slip}{wild}",
        f"  in {mistake.function.__name__}:",
        *(f"    - {line}" for line in mistake.source.splitlines()),
        *(f"    + {line}" for line in mistake.replacement.splitlines()),
        f"  why it passes: {mistake.why}",
        f"  what gives it away: {mistake.giveaway}",
    ]
    lines += [f"  the checker: {finding}" for finding in trial.report.findings]
    for argument in trial.report.arguments:
        if not argument.passed:
            causes = "; ".join(map(str, argument.causes)) or "wrong throughout, by no known pattern"
            lines.append(f"  the checker, {argument.name}: {causes}")
    return "\n".join(lines)


def table(trials: list[Trial], others: list[Others]) -> str:
    """Return a row a mistake, and the totals; ``others`` are the other checks of each."""
    header = ("layer", "slip", "error", "the checker says", "torch", "2e-2", "ones")
    rows: list[tuple[str, ...]] = [header]
    for trial, verdicts in zip(trials, others, strict=True):
        keys = dict.fromkeys(cause.key for cause in trial.report.causes)
        says = "PASSES" if trial.report.passed else ", ".join(keys) or "rejected"
        passes = ("passes" if passed else "-" for passed in verdicts)
        slip = trial.mistake.slip + (" (wild)" if trial.mistake.wild else "")
        rows.append((trial.mistake.layer, slip, _error(trial), says, *passes))
    caught = sum(not trial.report.passed for trial in trials)
    named = sum(bool(trial.report.causes) for trial in trials)
    torch, absolute, ones = (sum(passed) for passed in zip(*others, strict=True))
    totals = (
        f"{counted(len(trials), 'mistake')}: {caught} rejected, a cause or a place named for "
        f"{named}; passed at torch's default tolerance: {torch}, at an absolute 2e-2: "
        f"{absolute}, under a cotangent of ones: {ones}"
    )
    return "\n".join([*aligned(rows), "", totals])


def _error(trial: Trial) -> str:
    errors = [a.comparisons[0].error for a in trial.report.arguments if a.comparisons]
    return f"{max(errors):.0e}" if errors else "-"
