"""MediaPipe calculator graphs of our own, without `import mediapipe`.

That import pulls in OpenCV, jax and PortAudio, and fails on a server without libGL. Everything needed here is in one
C++ extension module of the wheel, which is loaded by its path (65 ms). It goes into `sys.modules` under its true name,
so a program that imports the real mediapipe later, or did so before, shares it: the extension must not load twice.

Graphs are text protos built from MediaPipe's calculators and its bundled models. They remember nothing between frames.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import machinery, metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engines.errors import EngineFault, EngineUnavailable
from engines.types import Floats, Rgb

VERSION = "0.10.21"
MEND = f"run: pip install mediapipe=={VERSION}"
BINDINGS = "mediapipe.python._framework_bindings"

# What the C++ side prints whenever a graph starts, with no setting to stop it. Anything else it prints is passed on.
_CHATTER = re.compile(
    rb"Created TensorFlow Lite XNNPACK delegate|before absl::InitializeLog|inference_feedback_manager"
    rb"|landmark_projection_calculator"
)
_stderr_lock = threading.Lock()

Packet = Any  # mediapipe.python._framework_bindings.packet.Packet; the extension has no types


def bindings() -> ModuleType:
    """The wheel's C++ extension. Raises EngineUnavailable with the command that mends it."""
    loaded = sys.modules.get(BINDINGS)
    if loaded is not None:
        return loaded  # ours, or the real package's
    package = _package_directory()
    for suffix in machinery.EXTENSION_SUFFIXES:
        path = package / "python" / f"_framework_bindings{suffix}"
        spec = util.spec_from_file_location(BINDINGS, path) if path.exists() else None
        if spec is not None and spec.loader is not None:
            return _load(spec)
    raise EngineUnavailable(f"mediapipe {VERSION} is not built for this Python; {MEND}")


def _package_directory() -> Path:
    try:
        found = metadata.version("mediapipe")
        spec = util.find_spec("mediapipe")
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise EngineUnavailable(f"mediapipe is not installed; {MEND}") from error
    if found != VERSION:
        raise EngineUnavailable(f"mediapipe {found} does not carry its face models, {VERSION} does; {MEND}")
    if spec is None or not spec.submodule_search_locations:
        raise EngineUnavailable(f"mediapipe is not installed; {MEND}")
    return Path(spec.submodule_search_locations[0])


def _load(spec: machinery.ModuleSpec) -> ModuleType:
    module = util.module_from_spec(spec)
    sys.modules[BINDINGS] = module
    try:
        assert spec.loader is not None
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[BINDINGS]
        raise EngineUnavailable(f"mediapipe's library does not load: {error}; {MEND}") from error
    return module


class Graph:
    """A running graph. One thread at a time may use it.

    `feed` starts the work in MediaPipe's own threads, `wait` collects the outputs of the latest feed; between the two
    the caller may do something else.
    """

    def __init__(self, text: str, outputs: tuple[str, ...]) -> None:
        self._library = bindings()
        self._outputs: dict[str, Packet] = {}
        self._time_us = 0
        site_packages = Path(str(self._library.__file__)).parents[2]
        self._library.resource_util.set_resource_dir(str(site_packages))  # where models are looked for
        with _quiet_stderr():
            try:
                self._graph = self._library.calculator_graph.CalculatorGraph(graph_config=text)
                for name in outputs:
                    self._graph.observe_output_stream(name, self._keep, True)
                self._graph.start_run()
                self._graph.wait_until_idle()  # the models load here
            except (RuntimeError, ValueError, FileNotFoundError) as error:
                raise EngineUnavailable(f"a face model does not start: {_one_line(error)}; {MEND}") from error

    def _keep(self, name: str, packet: Packet) -> None:
        if not packet.is_empty():
            self._outputs[name] = packet

    def feed(self, packets: Mapping[str, Packet]) -> None:
        """Starts one pass over one packet for each input stream."""
        self._outputs.clear()
        self._time_us += 1
        try:
            for name, packet in packets.items():
                self._graph.add_packet_to_input_stream(name, packet.at(self._time_us))
        except (RuntimeError, ValueError) as error:
            raise EngineFault(f"the face graph refused a frame: {_one_line(error)}") from error

    def wait(self) -> Mapping[str, Packet]:
        """Outputs of the latest feed, by stream; a stream without output is missing. Borrowed until the next feed."""
        try:
            self._graph.wait_until_idle()
        except (RuntimeError, ValueError) as error:
            raise EngineFault(f"the face graph failed: {_one_line(error)}") from error
        return self._outputs

    def run(self, packets: Mapping[str, Packet]) -> Mapping[str, Packet]:
        self.feed(packets)
        return self.wait()

    def close(self) -> None:
        """Stops the graph's threads. Harmless when repeated."""
        graph, self._graph = self._graph, None
        if graph is not None:
            with suppress(RuntimeError, ValueError):  # a graph that failed says so once more when it is closed
                graph.close()


def network(model: str) -> str:
    """The nodes that run one of MediaPipe's bundled models, from stream `input` to stream `output` (tensors)."""
    return f"""
    node {{
      calculator: "ConstantSidePacketCalculator"
      output_side_packet: "PACKET:path"
      options {{ [mediapipe.ConstantSidePacketCalculatorOptions.ext] {{
        packet {{ string_value: "mediapipe/modules/{model}.tflite" }} }} }}
    }}
    node {{
      calculator: "ResourceProviderCalculator"
      input_side_packet: "RESOURCE_ID:path"
      output_side_packet: "RESOURCE:resource"
    }}
    node {{
      calculator: "TfLiteModelCalculator"
      input_side_packet: "MODEL_RESOURCE:resource"
      output_side_packet: "MODEL:model"
    }}
    node {{ calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:ops" }}
    node {{
      calculator: "InferenceCalculator"
      input_stream: "TENSORS:input"
      output_stream: "TENSORS:output"
      input_side_packet: "MODEL:model"
      input_side_packet: "OP_RESOLVER:ops"
      options {{ [mediapipe.InferenceCalculatorOptions.ext] {{ delegate {{ xnnpack {{ }} }} }} }}
    }}
    """


def image_packet(rgb_HW3: Rgb) -> Packet:
    """A copy of the picture for graphs. The same packet may be fed to several of them."""
    library = bindings()
    pixels = np.ascontiguousarray(rgb_HW3)
    return library._packet_creator._create_image_frame_from_pixel_data(
        library.image_frame.ImageFormat.SRGB, pixels, True
    )


def square_packet(x: float, y: float, width: float, height: float, roll_rad: float) -> Packet:
    """A mediapipe.NormalizedRect: centre and size as shares of the picture's width and height, clockwise turn."""
    fields = ((1, x), (2, y), (3, height), (4, width), (5, roll_rad))
    message = b"".join(struct.pack("<Bf", number << 3 | 5, value) for number, value in fields)
    return bindings()._packet_creator._create_proto("mediapipe.NormalizedRect", message)


def float_value(packet: Packet) -> float:
    value: float = bindings()._packet_getter.get_float(packet)
    return value


def landmark_values(packet: Packet) -> Floats:
    """The x, y, z of a mediapipe.NormalizedLandmarkList, float32 [N, 3].

    Read straight from the serialised message, which is 20 times faster than the protobuf classes: its entries are all
    of the same length.
    """
    return parse_landmarks(bindings()._packet_getter._get_serialized_proto(packet))


def messages(packet: Packet) -> list[bytes]:
    """The serialised messages of a packet that holds a list of them."""
    found: list[bytes] = bindings()._packet_getter._get_serialized_proto_list(packet)
    return found


def parse_landmarks(serialized: bytes) -> Floats:
    """float32 [N, 3] out of a serialised landmark list whose entries start with x, y, z."""
    if not serialized:
        return np.zeros((0, 3), np.float32)
    stride = serialized[1] + 2
    rows = np.frombuffer(serialized, np.uint8)
    if stride < 17 or rows.size % stride:
        raise EngineFault("the face graph's landmarks have an unknown layout")
    rows = rows.reshape(-1, stride)
    if not (rows[:, [2, 7, 12]] == (0x0D, 0x15, 0x1D)).all():  # the tags of x, y and z
        raise EngineFault("the face graph's landmarks have an unknown layout")
    values = np.concatenate((rows[:, 3:7], rows[:, 8:12], rows[:, 13:17]), axis=1)
    return np.ascontiguousarray(values).view("<f4").astype(np.float32, copy=False)


def wire_fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Field numbers and values of one protobuf message: varints, 32-bit floats, and nested messages as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
        elif kind == 5:
            yield number, struct.unpack_from("<f", message, at)[0]
            at += 4
        elif kind == 2:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        else:
            raise EngineFault(f"the face graph's message has an unknown field of kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words[:300] or type(error).__name__


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what C++ writes to file descriptor 2, drops the known chatter and passes on the rest."""
    with _stderr_lock, tempfile.TemporaryFile() as held:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all (a windowed program): nothing to keep quiet
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not _CHATTER.search(line):
                    os.write(2, line)
