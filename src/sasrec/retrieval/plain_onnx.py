"""What an ONNX model may consist of, looked up in its bytes before ONNX Runtime is given them.

The format can name other files to be read, operators of libraries, and programs with loops. A network as
`sasrec export` writes it needs none of these, so whatever is not on the lists below is refused. The bytes are those of
Protocol Buffers: fields one after the other, each a number, a kind and a value.

Source: onnx/onnx.proto of ONNX 1.16 for the numbers of the fields.
"""

from collections.abc import Iterator

from sasrec.errors import BundleError

_OPERATORS = set(
    b"Add Cast Concat CumSum Div Gather Gelu Gemm LayerNormalization Less MatMul Max Mean Mul Neg ReduceL2 ReduceMean "
    b"ReduceSum Relu Reshape Shape Sigmoid Slice Softmax Squeeze Sub Transpose Unsqueeze Where".split()
)
# Names, notes and versions; and what is looked into or read below. Functions, sparse tensors, subgraphs, tensors as
# attributes and data in other files have numbers of their own, which are missing here.
_MODEL = {1, 2, 3, 4, 5, 6, 7, 8, 14}
_GRAPH = {1, 2, 5, 10, 11, 12}
_NODE = {1, 2, 3, 4, 5, 6}
_ATTRIBUTE = {1, 2, 3, 7, 8, 13, 20}
_TENSOR = {1, 2, 8, 9, 12}
_GRAPH_OF_MODEL, _NODE_OF_GRAPH, _TENSOR_OF_GRAPH, _OPERATOR_OF_NODE, _ATTRIBUTE_OF_NODE = 7, 1, 5, 4, 5
_INPUT = {1, 2, 3}
_INPUT_OF_GRAPH, _NAME_OF_INPUT, _NAME_OF_TENSOR, _AXIS_OF_TENSOR, _TAKEN, _MADE = 11, 1, 8, 1, 1, 2
_UNFOLDED = 4
"""Times the bytes of a model that may be computed of them at once; a network's tables are cut, and cut again."""


def check_plain(model: bytes) -> None:
    """Refuse a model that holds anything but plain arithmetic on arrays of its own, or unfolds to far more than these.

    Raises:
        BundleError: It does, or is no ONNX model.
    """
    graphs = list(_inside(memoryview(model), _MODEL, _GRAPH_OF_MODEL, "model"))
    if len(graphs) != 1:  # several are read as one, whose parts would be checked one by one
        raise BundleError(f"model.onnx is no ONNX model: it holds {len(graphs):,} graphs, expected one")
    graph = graphs[0]
    for node in _inside(graph, _GRAPH, _NODE_OF_GRAPH, "graph"):
        for operator in _inside(node, _NODE, _OPERATOR_OF_NODE, "node"):
            if bytes(operator) not in _OPERATORS:
                raise BundleError(f"model.onnx has an operator that no exported network needs: {bytes(operator)!r}")
        for attribute in _inside(node, _NODE, _ATTRIBUTE_OF_NODE, "node"):
            list(_fields(attribute, _ATTRIBUTE, "node's attribute"))
    for tensor in _inside(graph, _GRAPH, _TENSOR_OF_GRAPH, "graph"):
        list(_fields(tensor, _TENSOR, "tensor"))
    _check_constants(graph, most=_UNFOLDED * len(model))


def _check_constants(graph: memoryview, *, most: int) -> None:
    """Refuse what would unfold to far more than the model's own bytes.

    ONNX Runtime computes whatever depends on no input while it opens a model, shapes of inputs included, and keeps it.
    A chain of nodes that each double what they are given makes gigabytes of a few bytes, so of constants alone there
    may only be nodes that give no more than they take: a network is exported with no others.
    """
    given = _sizes(graph, _INPUT_OF_GRAPH, _INPUT, _NAME_OF_INPUT, "input")
    sizes = _sizes(graph, _TENSOR_OF_GRAPH, _TENSOR, _NAME_OF_TENSOR, "tensor")
    tensors = _inside(graph, _GRAPH, _TENSOR_OF_GRAPH, "graph")
    single = {_names(one, _TENSOR, _NAME_OF_TENSOR, "tensor")[-1] for one in tensors if _is_single(one)}
    varying = given.keys() - sizes.keys()
    total = 0
    for node in _inside(graph, _GRAPH, _NODE_OF_GRAPH, "graph"):
        operator, taken, made = (_names(node, _NODE, at, "node") for at in (_OPERATOR_OF_NODE, _TAKEN, _MADE))
        if strange := [name for name in taken if name and name not in varying and name not in sizes]:
            raise BundleError(f"model.onnx has a node that takes what none before it gives: {strange[0]!r}")
        if twice := [name for name in made if name in varying or name in sizes]:
            raise BundleError(f"model.onnx gives the same value twice: {twice[0]!r}")
        if operator[-1] != b"Shape" and varying.intersection(taken):
            varying.update(filter(None, made))
            continue
        size = _most_of(operator[-1], taken, given=given, sizes=sizes, single=single)
        if size is None:
            raise BundleError(f"model.onnx computes of constants alone what no exported network does: {operator[-1]!r}")
        total += size
        sizes.update((name, size) for name in made if name)
    if total > most:
        raise BundleError(f"model.onnx unfolds to {total:,} bytes of constants, more than fit here ({most:,})")


def _most_of(
    operator: bytes, taken: list[bytes], *, given: dict[bytes, int], sizes: dict[bytes, int], single: set[bytes]
) -> int | None:
    """At most so many bytes are what a node makes of constants; None where it could be more than it takes."""
    first, *others = taken or [b""]
    if operator == b"Shape":
        return given.get(first)
    keeps = operator in (b"Neg", b"Slice") or (operator == b"Gather" and single.issuperset(others))
    return sizes.get(first) if keeps else None


def _sizes(graph: memoryview, wanted: int, known: set[int], name: int, what: str) -> dict[bytes, int]:
    """Bytes of all inputs or arrays of a graph, by their names; BundleError where two have the same."""
    found: dict[bytes, int] = {}
    for one in _inside(graph, _GRAPH, wanted, "graph"):
        called = _names(one, known, name, what)[-1]
        if called in found:
            raise BundleError(f"model.onnx gives the same value twice: {called!r}")
        found[called] = len(one)
    return found


def _names(message: memoryview, known: set[int], wanted: int, what: str) -> list[bytes]:
    """All values of a field of text; where there should be one, the last is the one that counts."""
    return [bytes(value) for value in _inside(message, known, wanted, what)] or [b""]


def _is_single(tensor: memoryview) -> bool:
    """True for one number, in however many axes."""
    axes = (value for number, _, value in _fields(tensor, _TENSOR, "tensor") if number == _AXIS_OF_TENSOR)
    return all(size == 1 for value in axes for size in value)


def _inside(message: memoryview, known: set[int], wanted: int, what: str) -> Iterator[memoryview]:
    """The values of one field, which are messages or text."""
    for number, kind, value in _fields(message, known, what):
        if number == wanted:
            if kind != 2:  # which ONNX Runtime would pass over
                raise BundleError("model.onnx is no ONNX model")
            yield value


def _fields(message: memoryview, known: set[int], what: str) -> Iterator[tuple[int, int, memoryview]]:
    """Number, kind and value of every field; all have to be known."""
    at = 0
    while at < len(message):
        key, at = _whole(message, at)
        number, kind = key >> 3, key & 7
        start = at
        if kind == 0:
            _, at = _whole(message, at)
        elif kind == 2:
            size, start = _whole(message, at)
            at = start + size
        else:
            at += {1: 8, 5: 4}.get(kind, len(message) + 1)
        if at > len(message):
            raise BundleError("model.onnx is no ONNX model")
        if number not in known:
            raise BundleError(f"model.onnx has a field that no exported network needs: number {number} of a {what}")
        yield number, kind, message[start:at]


def _whole(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and where the next begins."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise BundleError("model.onnx is no ONNX model")
