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


def check_plain(model: bytes) -> None:
    """Refuse a model that holds anything but plain arithmetic on arrays of its own.

    Raises:
        BundleError: It does, or is no ONNX model.
    """
    for graph in _inside(memoryview(model), _MODEL, _GRAPH_OF_MODEL, "model"):
        for node in _inside(graph, _GRAPH, _NODE_OF_GRAPH, "graph"):
            for operator in _inside(node, _NODE, _OPERATOR_OF_NODE, "node"):
                if bytes(operator) not in _OPERATORS:
                    raise BundleError(f"model.onnx has an operator that no exported network needs: {bytes(operator)!r}")
            for attribute in _inside(node, _NODE, _ATTRIBUTE_OF_NODE, "node"):
                list(_fields(attribute, _ATTRIBUTE, "node's attribute"))
        for tensor in _inside(graph, _GRAPH, _TENSOR_OF_GRAPH, "graph"):
            list(_fields(tensor, _TENSOR, "tensor"))


def _inside(message: memoryview, known: set[int], wanted: int, what: str) -> Iterator[memoryview]:
    """The values of one field, which are messages or text."""
    return (value for number, value in _fields(message, known, what) if number == wanted)


def _fields(message: memoryview, known: set[int], what: str) -> Iterator[tuple[int, memoryview]]:
    """Number and value of every field; all have to be known."""
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
        yield number, message[start:at]


def _whole(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and where the next begins."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise BundleError("model.onnx is no ONNX model")
