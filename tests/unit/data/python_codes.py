# SPDX-License-Identifier: Apache-2.0
"""Run by each Python from 3.7 on: what it says itself of the code objects of sources.

    python data_python_codes.py FILE...

One JSON object a line: {file, first, name, qualname, table, lines}. `lines` holds what
PyCode_Addr2Line() says for each second byte of the bytecode, null for no line.
"""

import ctypes
import dis
import json
import sys
import warnings
from types import CodeType
from typing import Any, Iterator, List, Optional, Tuple  # noqa: UP035 - Python 3.7

warnings.simplefilter("ignore")
addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]
addr2line.restype = ctypes.c_int
Named = Tuple[CodeType, str]  # noqa: UP006


def codes(code: CodeType, qualname: str) -> Iterator[Named]:
    """Yield a code object and all within it, with their qualified names."""
    yield code, qualname
    for inner, name in names_in(code):
        yield from codes(inner, name)


def names_in(code: CodeType) -> Iterator[Named]:
    if hasattr(code, "co_qualname"):
        for each in code.co_consts:
            if isinstance(each, CodeType):
                yield each, each.co_qualname
        return
    # MAKE_FUNCTION has the code and the qualified name before it. A class's body is given
    # its plain name: it stores the qualified one itself.
    seen = set()
    before: List[Any] = []  # noqa: UP006
    for each in dis.get_instructions(code):
        if each.opname == "MAKE_FUNCTION":
            inner, name = before[-2].argval, before[-1].argval
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner, of_class(inner) or name
        if each.opname != "EXTENDED_ARG":
            before = [*before[-1:], each]


def of_class(code: CodeType) -> Any:
    instructions = list(dis.get_instructions(code))[:12]
    for first, second in zip(instructions, instructions[1:]):
        if second.opname == "STORE_NAME" and second.argval == "__qualname__":
            return first.argval
    return None


def line(code: CodeType, offset: int) -> Optional[int]:
    found = addr2line(code, offset)
    return found if found >= 0 else None


for path in sys.argv[1:]:
    with open(path, "rb") as file:
        try:
            module = compile(file.read(), path, "exec", dont_inherit=True)
        except SyntaxError:  # tests of the parser
            continue
    for code, qualname in codes(module, "<module>"):
        table = code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab
        print(
            json.dumps(
                {
                    "file": path,
                    "first": code.co_firstlineno,
                    "name": code.co_name,
                    "qualname": qualname,
                    "table": table.hex(),
                    "lines": [line(code, at) for at in range(0, len(code.co_code), 2)],
                }
            )
        )
