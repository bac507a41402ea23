# SPDX-License-Identifier: Apache-2.0
"""Code made at run time: long, wide, in any script, and again at the same address."""

import gc
import importlib.util
import os
import sys
import tempfile
from typing import Any

import witness
from witness import child, name

BEFORE = "from witness import child, forked, name, os_fork, os_waitpid, reaped, snap\nimport os\n"


def run_code(source, file):
    exec(compile(source, file, "exec"), {"child": child, "__name__": "made"})


def long_code():
    name("exec'd code of 1200 lines, at module level")
    lines = ["value = {}".format(each) for each in range(1200)]
    for at in (0, 127, 128, 255, 256, 257, 500, 899, 900, 1023, 1199):
        lines[at] = "value = child()"
    run_code("\n".join(lines), "<long>")

    name("a function of 1500 lines")
    body = ["    value = {}".format(each) for each in range(1500)]
    for at in (0, 100, 300, 899, 901, 1499):
        body[at] = "    value = child()"
    run_code("\n".join(["def long():", *body, "long()"]), "<long function>")

    name("functions far down a file")
    parts = []
    for number in range(8):
        parts += ["#"] * 400
        parts += ["def f{}():".format(number), "    x = 1", "", "    return child()", ""]
        parts += ["f{}()".format(number)]
    run_code("\n".join(parts), "<far down>")

    name("jumps of hundreds of lines within a function")
    body = []
    for number in range(6):
        body += ["    child()"] + [""] * (90 * (number + 1)) + ["    child("]
        body += ["#"] * 300 + ["    )"]
    run_code("\n".join(["def jumping():", *body, "jumping()"]), "<jumps>")


def wide_code():
    name("a line of thousands of characters")
    run_code("x = [{} child()]".format("None, " * 900), "<wide>")
    run_code("x = [{} child(), {} child()]".format("f'{1}', " * 100, "1+1, " * 300), "<wide>")
    name("a line of some ten thousand characters", "table")
    run_code("x = [{} child()]".format("None, " * 6000), "<wider>")

    name("a function of 400 local variables")
    body = ["    v{} = {}".format(each, each) for each in range(400)]
    body += ["    v1 = child()", "    return [v399, child()]"]
    run_code("\n".join(["def wide():", *body, "wide()"]), "<locals>")

    name("a function of 300 arguments")
    arguments = ", ".join("a{}".format(each) for each in range(300))
    given = ", ".join(["1"] * 300)
    run_code("def f({}):\n\n    return child()\nf({})".format(arguments, given), "<arguments>")

    name("300 constants and names")
    lines = ["x{0} = 'c{0}'".format(each) for each in range(600)] + ["child()"]
    run_code("\n".join(lines), "<names>")


def large_tables():
    name("a line table of more than 1 KiB")
    run_code(_function_of_calls(300, (0, 10, 150, 299)), "<table of kilobytes>")
    name("a line table of more than 16 KiB", "table")
    run_code(_function_of_calls(9000, (0, 1000, 8999)), "<table of many kilobytes>")


def _function_of_calls(lines, at):
    body = ["    x = [int(1), int(2), (3, int(4))]"] * lines
    for each in at:
        body[each] = "    x = [int(1), child(), int(2)]"
    return "\n".join(["def table():", *body, "table()"])


def again():
    """One name, other contents: what was at an address may be something else there now."""
    name("the same file name again and again")
    for number in range(25):
        blank = "\n" * (number * 7 % 31)
        function = "f{}".format(number % 5)
        source = "{0}def {1}():\n{2}    return child()\n{0}{1}()\n".format(
            blank, function, "    x = 1\n" * (number * 5 % 13)
        )
        run_code(source, "<again>")
        gc.collect()
    name("functions that begin alike and end otherwise")
    for number in range(20):
        run_code(alike(number), "<alike>")
    name("lambdas by eval, again and again")
    for number in range(15):
        eval(compile("\n" * number + "(lambda: child())()", "<eval>", "eval"), {"child": child})


def alike(blank):
    """A function that differs from others of its kind late in its line table alone."""
    return "def f():\n{}{}    return child()\nf()\n".format("    x = 1\n" * 60, "\n" * blank)


def siblings():
    """Each starts from the same state, and makes something else of it at the same address."""
    name("siblings that make different code of one name")
    for number in range(8):
        child(lambda number=number: run_code("\n" * number + "child()", "<sibling>"))
    for number in range(8):
        source = "def f():\n{}    child()\nf()".format("\n" * number)
        child(lambda source=source: run_code(source, "<sibling>"))
    name("siblings whose functions begin alike and end otherwise")
    for number in range(8):
        child(lambda number=number: run_code(alike(number), "<alike sibling>"))


SCRIPTS = {  # one script for each width that CPython stores text in
    "ASCII": ("plain", "plain"),
    "Latin-1": ("größe", "café"),
    "UCS-2": ("函数", "文件-Ω"),
    "UCS-4": ("\U00020000名", "\U0001f40d"),
    "not UTF-8": ("latin", "undecodable-\udcff"),
}


def scripts():
    for script, (function, file) in SCRIPTS.items():
        name("{} names".format(script))
        source = "class {0}:\n    def {0}(self):\n        return child()\n{0}().{0}()\n".format(
            function
        )
        run_code(source, "<{}>".format(file))
    with tempfile.TemporaryDirectory() as directory:
        for script, (function, file) in SCRIPTS.items():
            name("{} names of files".format(script))
            path = os.path.join(directory, file + ".py")
            text = BEFORE + "#\n" * 1000 + "def {}():\n    child()\n".format(function)
            try:
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(text)
                spec: Any = importlib.util.spec_from_file_location("made", path)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            except UnicodeEncodeError:  # a C locale of Python 3.6's kind
                witness.write("absent", reason="this locale has no such file names")
                continue
            getattr(module, __import__("unicodedata").normalize("NFKC", function))()


def long_names():
    name("names of 250 characters, files of 1000")
    function = "f" * 250 if sys.version_info < (3, 11) else "f" * 120
    run_code("def {0}():\n    child()\n{0}()".format(function), "<{}>".format("d/" * 499))
    run_code("def {0}():\n    child()\n{0}()".format("größe" * 40), "<{}>".format("ö/" * 250))
    name("names longer than what is sent", "cut names")
    run_code("def {0}():\n    child()\n{0}()".format("g" * 600), "<{}>".format("e/" * 2000))
    run_code("def {0}():\n    child()\n{0}()".format("函" * 300), "<{}>".format("数/" * 900))


def newer_syntax():
    name("syntax of later versions")
    for version, source in (
        ((3, 8), "if (x := child()):\n    print(end='')\n"),
        ((3, 10), "match child():\n    case int() if child():\n        child()\n"),
        (
            (3, 11),
            "try:\n    raise ExceptionGroup('', [KeyError()])\nexcept* KeyError:\n    child()\n",
        ),
        (
            (3, 12),
            "def f[T](x: T = child()):\n    return child()\n"
            "f()\ntype A = int\nclass C[T]:\n    child()\n",
        ),
        ((3, 12), "f'{child()} {\n    child()}'\n"),
        ((3, 14), "t'{child()}'\n"),
    ):
        if sys.version_info >= version:
            run_code("\n" * 5 + source, "<syntax {}.{}>".format(*version))


SHAPES = (long_code, wide_code, large_tables, again, siblings, scripts, long_names, newer_syntax)
