"""A network that was exported as ONNX, as a scorer: ONNX Runtime computes, and torch is never imported.

Axes: B histories, L longest of them, V catalogue, D width.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from jaxtyping import Float

from sasrec.bundle import EXPORTED
from sasrec.config import Config
from sasrec.data.sequences import Sequences
from sasrec.errors import BundleError, ConfigError, ScoreError
from sasrec.retrieval.plain_onnx import check_plain

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_PAIRS = 2**20  # pairs of positions of all histories that attention looks at in one run
_QUIET = 4  # of ONNX Runtime's levels of logging: what is fatal alone; whatever else goes wrong is raised


@final
class Exported:
    """Scores with an ONNX model that `sasrec.export_onnx` wrote.

    The model takes `items`, int64 of shape (B, L): item rows, oldest first, -1 to the left of shorter histories; and
    where the network tells users apart `users`, int64 of shape (B,), -1 for the unknown; and where it looks at times
    `times` (B, L), when each event happened, whatever to the left of shorter histories, and `asked` (B,), when what
    follows is asked for, int64 in the unit of the model's log. It gives `scores` (B, V), the `vectors` of all items
    (V, D) and, where it has any, the `attention` of the last position (B, L), float32.
    """

    kind = EXPORTED

    def __init__(self, graph: bytes, config: Config, items: int, *, threads: int = 1) -> None:
        """Read the model.

        Args:
            graph: The ONNX model.
            config: The settings of the network.
            items: Catalogue size V.
            threads: CPU threads that compute.

        Raises:
            BundleError: It is no such model, or of another catalogue; the settings leave open what a network has; or
                ONNX Runtime is missing.
        """
        for name in ("width", "length", "positions"):
            if getattr(config, name) == "auto":
                raise BundleError(f"config.json: {name}: an exported network has one that is settled, found 'auto'")
        self.graph, self.config, self.items = graph, config, items
        self.reads_times = config.times != "none"
        check_plain(graph)
        self._session = _session(graph, threads)
        inputs = {one.name: (one.type, len(one.shape)) for one in self._session.get_inputs()}
        outputs = {one.name: (one.type, one.shape[-1]) for one in self._session.get_outputs()}
        one, each = ("tensor(int64)", 1), ("tensor(int64)", 2)
        expected = {"items": each} | ({"users": one} if config.user_width else {})
        expected |= {"times": each, "asked": one} if self.reads_times else {}
        if inputs != expected or outputs.get("scores") != ("tensor(float)", items) or "vectors" not in outputs:
            raise BundleError(f"model.onnx does not fit the catalogue of {items:,} items and its settings")
        self._attentive = "attention" in outputs

    @property
    def length(self) -> int:
        """Most recent events of a history that the network looks at."""
        return int(self.config.length)

    def use_threads(self, count: int) -> None:
        """Compute with so many CPU threads from now on."""
        self._session = _session(self.graph, count)

    def scores(self, histories: Sequences) -> Float[np.ndarray, "B V"]:
        """A score for every item after each history."""
        recent = histories.last(self.length)
        size = max(1, _PAIRS // int(recent.lengths.max(initial=1)) ** 2)
        parts = [np.arange(start, min(start + size, len(recent))) for start in range(0, len(recent), size)]
        found = [self._run("scores", recent if len(parts) == 1 else recent.take(part)) for part in parts]
        return found[0] if len(found) == 1 else np.concatenate([np.empty((0, self.items), np.float32), *found])

    def similarities(self, item: int) -> Float[np.ndarray, "V"]:
        """Cosine of item vectors."""
        return self._directions @ self._directions[item]

    def attention(self, history: Sequences) -> Float[np.ndarray, "L"] | None:
        """What the last position of one history looks at; None where the network has no attention."""
        return self._run("attention", history.last(self.length))[0] if self._attentive else None

    def to_parts(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The network's settings, and the ONNX model."""
        return self.config.to_dict(), {"graph": self.graph}

    @classmethod
    def from_parts(cls, items: int, config: dict[str, Any], tensors: dict[str, bytes]) -> Self:
        """From what was saved; BundleError as for a new one."""
        try:
            return cls(tensors["graph"], Config.from_dict(config, where="config.json"), items)
        except ConfigError as error:
            raise BundleError(str(error)) from None

    def _run(self, output: str, histories: Sequences) -> np.ndarray:
        lengths = histories.lengths
        longest = int(lengths.max(initial=1))
        there = np.arange(longest) >= longest - lengths[:, np.newaxis]
        rows = np.full(there.shape, -1, dtype=np.int64)
        rows[there] = histories.items
        given = {"items": rows}
        if self.reads_times:
            if histories.times is None or histories.asked is None:
                raise ConfigError("times: the network looks at when events happened and when it is asked; give both")
            given |= {"times": np.zeros(there.shape, np.int64), "asked": histories.asked.astype(np.int64)}
            given["times"][there] = histories.times
        if self.config.user_width:
            users = histories.users
            given["users"] = np.full(len(lengths), -1, np.int64) if users is None else users.astype(np.int64)
        try:
            found: np.ndarray = self._session.run([output], given)[0]
        except Exception as error:  # noqa: BLE001  # ONNX Runtime has no common class for what goes wrong
            raise ScoreError(f"the exported network cannot be computed: {error}") from None
        width = found.shape[-1] if found.ndim else 0
        shapes = {"scores": (len(lengths), self.items), "attention": there.shape, "vectors": (self.items, width)}
        if found.shape != shapes[output] or found.dtype.kind != "f":  # what the file says of them need not be true
            raise ScoreError(
                f"model.onnx: {output} for {len(lengths):,} histories are {found.dtype} of shape {found.shape}, "
                f"expected float32 of shape {shapes[output]}; export the model again"
            )
        return found

    @cached_property
    def _directions(self) -> Float[np.ndarray, "V D"]:
        moment = np.zeros(1, dtype=np.int64)
        vectors = self._run("vectors", replace(Sequences.of([[0]]), times=moment, asked=moment))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _session(graph: bytes, threads: int) -> "InferenceSession":
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise BundleError(
            "holds an exported network, which needs the package onnxruntime; pip install 'sasrec[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _QUIET
    options.enable_cpu_mem_arena = False  # what a large batch took is given back
    options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the vectors, for a twentieth
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # ONNX Runtime has no common class for what is wrong with a model
        raise BundleError(f"model.onnx cannot be used: {error}") from None
