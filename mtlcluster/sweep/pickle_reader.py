"""Reads pickles of plain containers and numpy arrays. It calls nothing that a pickle names.

pickletools splits the bytes into instructions, and the values are made here. So a file that somebody sent can't reach
numpy's own constructors, which trust their arguments: an array of objects made of bytes points to arbitrary memory.
Arrays and numpy scalars hold numbers, booleans and texts of fixed width. The size of the result is limited by the size
of the file.
"""

import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlcluster.sweep import plain_arrays

MOST = 500_000  # instructions of a pickle: a history has some thousands
DEEPEST = 50  # levels of nested containers
# The most bytes of arrays, and of the result if every reference were a copy: ROOM plus SHARED times the file's size.
ROOM = 2**26
SHARED = 16

# The names in numpy's pickles, with the module names of numpy 1 and 2.
NAMES = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
} | {("numpy", "ndarray"), ("numpy", "dtype")}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = {"BININT", "BININT1", "BININT2", "BINFLOAT"}
LONG_NUMBERS = {"LONG1", "LONG4"}
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PLAIN = (str, int, float, bool, type(None))  # types of keys: hashing a deep tuple overflows the C stack


class UnsafePickle(Exception):
    """A pickle holds something other than plain containers and numpy arrays."""


class Name(str):
    """One of NAMES, without its module."""


class Kind:
    """A dtype that is not complete yet: its code, and its byte order, which a later instruction sets."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.code}")


class Blank:
    """An array whose content a later instruction sets."""

    array: NDArray[Any] | None = None


def loads(data: bytes) -> Any:
    """The value of a pickle.

    Raises:
        UnsafePickle: It holds something other than plain containers and arrays. The message names it.
        ValueError: It is incomplete, damaged or too large.
    """
    return _Reader(data).read()


class _Reader:
    """The stack machine that runs a pickle's instructions. Only a few of them are allowed."""

    def __init__(self, data: bytes) -> None:
        self.data, self.room = data, ROOM + SHARED * len(data)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(self.data)):
                if number > MOST:
                    raise ValueError("it holds more than a history can")
                self._do(opcode.name, argument)
            [value] = self.stack
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise ValueError(f"torn or damaged ({type(error).__name__}: {error})") from None
        return _Settling(self.room).settled(value)

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in TEXTS or name in NUMBERS:
            if isinstance(argument, str) and not argument.isascii():
                argument.encode()  # raises ValueError for a lone surrogate, which can't be printed or stored
            stack.append(argument)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack.append(tuple(self._taken(len(stack) - TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._taken(self.marks.pop())))
        elif name in ("APPEND", "APPENDS"):
            items = self._taken(len(stack) - 1 if name == "APPEND" else self.marks.pop())
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._taken(len(stack) - 2 if name == "SETITEM" else self.marks.pop())
            _of(dict, stack[-1]).update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif name == "ADDITEMS":
            items = self._taken(self.marks.pop())
            _of(set, stack[-1]).update(map(_key, items))
        elif name == "FROZENSET":
            stack.append(frozenset(map(_key, self._taken(self.marks.pop()))))
        elif name in LONG_NUMBERS:
            stack.append(_number(argument))
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_named(*self._taken(len(stack) - 2)))
        elif name == "REDUCE":
            arguments = _of(tuple, stack.pop())
            stack.append(self._made(_of(Name, stack.pop()), arguments))
        elif name == "BUILD":
            state = _of(tuple, stack.pop())
            self._build(stack[-1], state)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise UnsafePickle(f"refused the instruction {name}: only plain containers and numpy arrays are admitted")

    def _taken(self, start: int) -> list[Any]:
        """Removes and returns the values on the stack from `start` on."""
        if not 0 <= start <= len(self.stack):
            raise IndexError("nothing to take")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _made(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        if name == "dtype":
            code = arguments[0]
            if not (isinstance(code, str) and plain_arrays.CODE.fullmatch(code)):
                raise UnsafePickle(f"refused an array of {code!r}: only numbers, booleans and short texts are admitted")
            return Kind(code)
        if name == "_reconstruct":
            return Blank()
        if name == "_frombuffer":
            content, kind, shape, order = arguments
            return self._array(kind, shape, order, content)
        if name == "scalar":
            kind, content = arguments
            return self._array(kind, (), "C", content)[()]
        raise UnsafePickle(f"refused a call of '{name}'")

    def _build(self, made: Any, state: tuple[Any, ...]) -> None:
        if isinstance(made, Kind):
            _, order, *parts = state
            if order not in ("<", ">", "=", "|") or any(parts[:3]):
                raise UnsafePickle(f"refused an array of {made.code!r} with parts of its own")
            made.order = order
        elif isinstance(made, Blank):
            _, shape, kind, by_columns, content = state
            made.array = self._array(kind, shape, "F" if by_columns else "C", content)
        else:
            raise UnsafePickle(f"refused to change a {type(made).__name__}")

    def _array(self, kind: Any, shape: Any, order: Any, content: Any) -> NDArray[Any]:
        """An array of exactly these bytes."""
        dtype, sides = _of(Kind, kind).dtype, _of(tuple, shape)
        if not isinstance(content, bytes | bytearray):
            raise UnsafePickle("refused an array of objects: only numbers, booleans and short texts are admitted")
        self.room -= len(content)
        if self.room < 0:
            raise ValueError("its arrays hold more than the file")
        return plain_arrays.array(dtype, sides, content, order)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise UnsafePickle(f"refused a {type(value).__name__} where a {kind.__name__} should be")
    return value


def _key(value: Any) -> Any:
    if not isinstance(value, PLAIN) or isinstance(value, Name):
        raise UnsafePickle(f"refused a {type(value).__name__} as a key")
    return value


def _number(value: int) -> int:
    if value.bit_length() > 256:  # too long to print
        raise ValueError("a number of more than 256 bits")
    return value


def _named(module: Any, name: Any) -> Name:
    if (module, name) not in NAMES:
        raise UnsafePickle(f"refused '{module}.{name}': only plain containers and numpy arrays are admitted")
    return Name(name)


class _Settling:
    """Puts finished arrays in place of Blanks, and limits the depth and the size of the value."""

    def __init__(self, room: int) -> None:
        self.room = room
        # By id: the container (kept alive, so that no other object gets its id), the finished one, and its size with
        # shared parts counted each time.
        self.met: dict[int, tuple[Any, Any, int]] = {}

    def settled(self, value: Any) -> Any:
        return self._settle(value, 0)[0]

    def _settle(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, np.ndarray | np.generic):
            return value, 1 + value.nbytes
        if isinstance(value, Blank):
            if value.array is None:
                raise ValueError("an array without its content")
            return value.array, 1 + value.array.nbytes
        if isinstance(value, Name | Kind):
            raise ValueError(f"it holds a {type(value).__name__.lower()} in place of a value")
        if isinstance(value, str | bytes | bytearray):
            return value, 1 + len(value)
        if not isinstance(value, list | dict | tuple | set | frozenset):
            return value, 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} nested containers, or one that contains itself")
        if id(value) not in self.met:
            made, size = self._settle_inside(value, depth)
            if size > self.room:
                raise ValueError("without shared parts, it is far larger than the file")
            self.met[id(value)] = value, made, size
        _, made, size = self.met[id(value)]
        return made, size

    def _settle_inside(self, value: Any, depth: int) -> tuple[Any, int]:
        inner = value.values() if isinstance(value, dict) else value
        parts = [self._settle(part, depth + 1) for part in inner]
        size = 1 + sum(size for _, size in parts)
        made = [part for part, _ in parts]
        if isinstance(value, dict):
            value.update(zip(value, made, strict=True))
            return value, size + sum(1 + len(key) for key in value if isinstance(key, str))
        if isinstance(value, list):
            value[:] = made
            return value, size
        return type(value)(made), size
