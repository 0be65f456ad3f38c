"""Start Triton on a model repository, wait until it answers, forward its log, stop it cleanly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.ports import check_free
from ensemble.triton import ServingPython, Triton, default_python, find_triton, inspect_python
from workflows.diagnostics import ServerError

MODEL = "retrieval"
_POLL_SECONDS = 0.02
_KILL_SECONDS = 5


def _silent(_: str) -> None:
    """Forward nothing."""


@dataclass(frozen=True)
class Addresses:
    """Where a server listens."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int

    @property
    def grpc(self) -> str:
        """Return host:port for gRPC clients."""
        return f"{self.host}:{self.grpc_port}"


class TritonServer:
    """A Triton that serves one model repository, as a context manager: inside the block it answers."""

    def __init__(
        self,
        repository: Path,
        *,
        triton: Path | None = None,
        python: Path | None = None,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        on_log: Callable[[str], None] = _silent,
        start_timeout_seconds: float = 120,
        stop_timeout_seconds: float = 15,
    ) -> None:
        """Take a repository that `FusedRuntime.export` wrote.

        `triton` is a tritonserver or its install directory (default: PATH, then the nvidia-pytriton wheel); `python` is
        the interpreter of the serving environment (default: `.venv-serve`, else the running one); `on_log` gets every
        line of Triton's log, from a thread of its own.
        """
        self.repository = repository.absolute()
        self.addresses = Addresses(host, grpc_port, http_port, metrics_port)
        self._triton, self._python = triton, python or default_python()
        self._on_log = on_log
        self._start_timeout, self._stop_timeout = start_timeout_seconds, stop_timeout_seconds
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._tail: deque[str] = deque(maxlen=400)

    @property
    def process_id(self) -> int:
        """Return the process id of the running tritonserver (its python stubs are children of it)."""
        if self._process is None:
            raise ServerError("Triton is not running")
        return self._process.pid

    def start(self) -> None:
        """Start Triton and return once the model answers.

        Raises
        ------
        ServerError
            No repository, no Triton, an unfit Python, a taken port; Triton ended, or was not ready in time (with the
            reasons from its log).
        """
        if not (self.repository / MODEL / "config.pbtxt").is_file():
            raise ServerError(f"{self.repository}: no model repository; expected what `retrieval release` wrote")
        python = inspect_python(self._python)
        triton = find_triton(self._triton, python)
        place = self.addresses
        check_free(place.host, {"grpc": place.grpc_port, "http": place.http_port, "metrics": place.metrics_port})
        self._process = subprocess.Popen(
            self._command(triton),
            env=serving_environment(python, _threads(self.repository)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C in the terminal reaches us, and we stop Triton
        )
        self._reader = threading.Thread(target=self._forward, args=(self._process,), daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> int:
        """Wait for Triton to end by itself and return its exit status."""
        if self._process is None:
            raise ServerError("Triton is not running")
        return self._process.wait()

    def stop(self) -> None:
        """Let requests in flight finish and end Triton; kill it if it takes longer than the stop time-out."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(self._stop_timeout + _KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._on_log(f"Triton did not stop within {self._stop_timeout + _KILL_SECONDS:.0f} s: killing it")
        _kill_group(process.pid)
        process.wait()
        if self._reader is not None:
            self._reader.join()

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, triton: Triton) -> list[str]:
        place = self.addresses
        options = {
            "model-repository": self.repository,
            "grpc-address": place.host,
            "grpc-port": place.grpc_port,
            "http-address": place.host,
            "http-port": place.http_port,
            "metrics-address": place.host,
            "metrics-port": place.metrics_port,
            "allow-gpu-metrics": "false",
            "exit-timeout-secs": int(self._stop_timeout),
        }
        if triton.backends is not None:
            options["backend-directory"] = triton.backends
        return [
            str(triton.server),
            "--disable-auto-complete-config",
            *(f"--{key}={one}" for key, one in options.items()),
        ]

    def _forward(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._tail.append(line.rstrip("\n"))
                self._on_log(self._tail[-1])

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not _is_ready(self.addresses):
            if process.poll() is not None:
                assert self._reader is not None
                self._reader.join()
                raise ServerError(f"Triton ended with status {process.returncode}: {self._reasons()}")
            if time.monotonic() > deadline:
                raise ServerError(f"Triton was not ready after {self._start_timeout:.0f} s: {self._reasons()}")
            time.sleep(_POLL_SECONDS)

    def _reasons(self) -> str:
        """Return what Triton's log says went wrong, each thing once, else its last lines."""
        errors = [line for line in self._tail if line.startswith(("E", "error:")) and "CudaDriverHelper" not in line]
        reasons: list[str] = []
        for line in errors:
            # The model's own message, without where in the log, in Triton and in Python it came up.
            text = line.split("] ", 1)[-1].strip('"').split("\\n\\nAt:", 1)[0]
            text = text.split("Failed to create instance: ", 1)[-1]
            if not any(text in known or known in text for known in reasons):
                reasons.append(text)
        return "; ".join(reasons[:3] or list(self._tail)[-5:]) or "its log is empty"


def serve(server: TritonServer, ready: Callable[[Addresses], None]) -> int:
    """Run the server in the foreground until SIGTERM, SIGINT or its own end; return the exit status, 0 after a signal.

    `ready` is called once it answers. Call from the main thread, which is where Python handles signals.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for one in previous:  # a second signal must not interrupt the stop, which has a time-out of its own
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        with server:
            ready(server.addresses)
            status = server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
    if not stopping:
        raise ServerError(f"Triton ended by itself with status {status}")
    return 0


def serving_environment(python: ServingPython, threads: int) -> dict[str, str]:
    """Return the environment in which Triton's stub starts the serving Python: the `python3` that is first on PATH."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment["PATH"] = os.pathsep.join([str(python.executable.parent), environment.get("PATH", os.defpath)])
    environment["VIRTUAL_ENV"] = str(python.executable.parent.parent)
    if python.library is not None:
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(python.library), *([inherited] if inherited else [])])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    return environment


def _threads(repository: Path) -> int:
    manifest = repository / MODEL / "1/release/manifest.json"
    try:
        return int(json.loads(manifest.read_text(encoding="utf-8"))["serving"]["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1  # the model itself says what is wrong with the release


def _is_ready(place: Addresses) -> bool:
    try:
        # gRPC waits for seconds after a refused connection, so it is asked only once there is someone to answer.
        socket.create_connection((place.host, place.grpc_port), timeout=1).close()
        with grpc.InferenceServerClient(place.grpc) as client:
            return bool(client.is_model_ready(MODEL, client_timeout=2))
    except (OSError, InferenceServerException):
        return False


def _kill_group(pid: int) -> None:
    """Kill what is left of Triton's process group, its stubs included."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
