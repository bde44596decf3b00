"""An ONNX model, built node by node."""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu
_IR = 9  # the format that came with it


@final
class Graph:
    """Nodes in the order in which they are added. A value is a name: nodes take values and give one."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, bytes], str] = {}

    def array(self, array: np.ndarray, name: str | None = None) -> str:
        """A constant; small ones that are equal are one."""
        key = (f"{array.dtype}{array.shape}", array.tobytes()) if array.nbytes <= 64 and name is None else None
        if key is not None and key in self._known:
            return self._known[key]
        name = name or f"array_{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        if key is not None:
            self._known[key] = name
        return name

    def number(self, number: float) -> str:
        """A float32 constant."""
        return self.array(np.array(number, dtype=np.float32))

    def whole(self, *numbers: int) -> str:
        """A list of int64, as axes and shapes are."""
        return self.array(np.array(numbers, dtype=np.int64))

    def node(
        self,
        operator: str,
        *values: str,
        attributes: Mapping[str, int | float | Sequence[int]] | None = None,
        name: str | None = None,
    ) -> str:
        """What an operator of ONNX gives for some values."""
        name = name or f"{operator.lower()}_{len(self._nodes)}"
        node = helper.make_node(operator, values, [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
        self._nodes.append(node)
        return name

    def to_bytes(self, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, Sequence[str | int]]) -> bytes:
        """The whole model, checked to be valid ONNX.

        Args:
            inputs: Name and axes of what is given, int64.
            outputs: Name and axes of what is asked for, float32; an axis of known size is a number.
        """
        graph = helper.make_graph(
            self._nodes,
            "sasrec",
            [helper.make_tensor_value_info(name, TensorProto.INT64, list(axes)) for name, axes in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(axes)) for name, axes in outputs.items()],
            self._arrays,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR, producer_name="sasrec"
        )
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content
