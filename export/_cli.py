"""The program `ponderzoo`: one subcommand a function of `commands/`."""

import os
import sys

from absl import app, logging
from absl.flags import argparse_flags

from .commands._command import ERRORS, find_commands, import_backend


def main():
    """Console script. Exit codes: 0 done, 1 `error: ...` in one line, 2 wrong usage."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.ERROR)
    app.run(_run, flags_parser=lambda argv: _parser().parse_args(argv[1:]))


def _run(arguments):
    try:
        import_backend(arguments.needs)
        code = arguments.function(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; nor must the interpreter try to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ERRORS as error:
        if os.environ.get("PONDERZOO_TRACEBACK") or isinstance(error, NotImplementedError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser():
    parser = argparse_flags.ArgumentParser(
        prog="ponderzoo",
        description="Trains, measures, exports and serves the models of the zoo.",
        epilog="KERAS_BACKEND=jax or tensorflow (the default) chooses the backend; "
        "PONDERZOO_TRACEBACK=1 shows where an error comes from.",
    )
    groups = {"": _subparsers(parser)}
    for command in find_commands():
        within, _, name = command.words.rpartition(" ")
        if command.function:
            _add(groups[within], name, command)
        else:
            one = groups[within].add_parser(name, help=command.text, inherited_absl_flags=None)
            groups[command.words] = _subparsers(one)
    return parser


def _subparsers(parser):
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _add(subparsers, name, command):
    parser = subparsers.add_parser(
        name,
        help=command.text.partition(". ")[0].rstrip("."),
        description=command.text,
        inherited_absl_flags=None,
    )
    parser.set_defaults(function=command.function, needs=command.needs)
    for names, options in command.arguments:
        parser.add_argument(*names, **options)
    if command.intermixed:
        parser.parse_known_args = _intermixed(parser)


def _intermixed(parser):
    """`parse_known_args` of a parser that finds positional arguments behind options, too."""
    parse_once = parser.parse_known_args

    def parse(args=None, namespace=None):
        parser.parse_known_args = parse_once
        try:
            return parser.parse_known_intermixed_args(args, namespace)
        finally:
            parser.parse_known_args = parse

    return parse


if __name__ == "__main__":
    main()
