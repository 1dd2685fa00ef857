"""The program `ponderzoo`: one subcommand a function of `commands/`."""

import os
import signal
import sys

INTERRUPTED = 130


def main():
    """Console script. Exit codes: 0 done, 1 `error: ...` in one line, 2 wrong usage, 130 Ctrl-C."""
    _interrupts(_leave(os.dup(2)))
    # Nothing that is not said in words; before TensorFlow and gRPC are loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from absl import app, logging

    logging.set_verbosity(logging.ERROR)
    try:
        app.run(_run, flags_parser=lambda argv: _parse(argv[1:]))
    except KeyboardInterrupt:
        sys.stdout.flush()
        _leave(2)()


def _interrupts(handler):
    """Sets what Ctrl-C does, unless whoever started this process wants it to do nothing."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, handler)


def _leave(console):
    """A handler that ends the process, however deep in the loading of a library."""

    def handler(*_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(console, b"interrupted\n")
        os._exit(INTERRUPTED)

    return handler


def _parse(words):
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(words)


def _run(arguments):
    from . import _outline
    from .commands._command import ERRORS, import_backend

    try:
        import_backend(arguments.needs)
        # From here on there may be something to put in order.
        _interrupts(signal.default_int_handler)
        code = arguments.function(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; nor must the interpreter try to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        known = isinstance(error, ERRORS)
        if _outline.stands_in() and (not known or isinstance(error, ImportError)):
            _outline.begin_anew()
        if not known and not _of_tensorflow(error):
            raise
        if os.environ.get("PONDERZOO_TRACEBACK") or isinstance(error, NotImplementedError):
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 1


def _of_tensorflow(error):
    """Whether TensorFlow refused what it was asked to compute."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(error, tf.errors.OpError)


def _in_words(error):
    """What an error says to people, without the names of nodes of a graph."""
    import errno

    from ._session import in_words

    if isinstance(error, OSError) and error.filename and error.strerror:
        room = "; make room and give the same command again" if error.errno == errno.ENOSPC else ""
        return f"{error.filename}: {error.strerror}{room}"
    text = str(getattr(error, "message", None) or error)
    if text.startswith("Graph execution error:"):
        # Behind the lines of Python that built the graph.
        text = text.strip().rpartition("\n\n")[2]
    return in_words(text) or type(error).__name__


def _parser():
    import argparse

    from absl.flags import argparse_flags

    from .commands._command import find_commands

    class Version(argparse.Action):
        def __call__(self, parser, *_):
            from importlib.metadata import version

            packages = ", ".join(f"{name} {version(name)}" for name in ("keras", "tensorflow"))
            print(f"ponderzoo {version('ponderzoo')} ({packages})")
            parser.exit()

    parser = argparse_flags.ArgumentParser(
        prog="ponderzoo",
        description="Trains, measures, exports and serves the models of the zoo.",
        epilog="KERAS_BACKEND=jax or tensorflow (the default) chooses the backend; "
        "PONDERZOO_TRACEBACK=1 shows where an error comes from.",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print versions and leave")
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
        options = dict(options)
        if names[0].startswith("--") and options.get("action") != "store_true":
            options.setdefault("type", _filled)
        completer = options.pop("completer", None)
        dashed = (f"--{one[2:].replace('_', '-')}" for one in names if one.startswith("--"))
        spelled = dict.fromkeys([*names, *dashed])
        parser.add_argument(*spelled, **options).completer = completer
    if command.intermixed:
        parser.parse_known_args = _intermixed(parser)


def _filled(text):
    """The text of an option, which a variable of the shell without a value would leave out."""
    import argparse

    if not text:
        raise argparse.ArgumentTypeError("expected a value, got ''")
    return text


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
