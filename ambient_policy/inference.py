"""Run a bundle with onnxruntime. The only file of the core that knows an inference library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ambient_policy.bound_graph import BoundGraph
from ambient_policy.bundle import Bundle
from ambient_policy.errors import InferenceError, ProviderError

Provider = Literal["cpu", "cuda", "tensorrt", "auto"]

_EXECUTION_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# One launch for all kernels of a graph, instead of one for each.
_CUDA_GRAPHS = {"cuda": {"enable_cuda_graph": "1"}, "tensorrt": {"trt_cuda_graph_enable": "1"}}
_INSTALL = (
    "install exactly one of `pip install 'ambient-policy[cpu]'`, `'ambient-policy[gpu]'` (CUDA 13) or "
    "`'ambient-policy[gpu-cu12]'` (CUDA 12); they share one folder, so uninstall the other first"
)


class Policy:
    """A bundle, ready to be asked for actions. Calls do not depend on the calls before them.

    Args:
        bundle: from `load_bundle`.
        provider: "cpu", "cuda" or "tensorrt" are strict: anything else running the graphs is a ProviderError.
            "auto" takes CUDA where it works and the CPU elsewhere. It never takes TensorRT, which builds
            engines for minutes at its first start.
        threads: of one operator. A control computer shares its cores: measured on a loaded 2-core machine,
            two spinning threads took three times as long as one.
        spinning: let waiting threads burn their core; for a machine that does nothing else.
        prefix: also be ready to sample chunks of which some actions are known.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: Provider = "cpu",
        threads: int = 1,
        *,
        spinning: bool = False,
        prefix: bool = False,
    ) -> None:
        self.manifest, self.threads = bundle.manifest, threads
        self._state_map = self.manifest.normalizer.state.build()
        self._action_map = self.manifest.normalizer.action.build()
        wanted = ("cuda", "cpu") if provider == "auto" else (provider,)
        if self.manifest.quantised is not None:
            if provider not in ("cpu", "auto"):
                raise ProviderError(
                    f"policy {self.manifest.name!r} has {self.manifest.weights} weights, for a CPU only; "
                    f"provider is {provider!r}. Ask for `cpu`, or take the float32 bundle it was made from"
                )
            wanted = ("cpu",)
        if prefix and not self.manifest.sampler.prefix:
            raise InferenceError(
                f"policy {self.manifest.name!r} cannot keep known actions: its bundle has no "
                "sampler_prefix.onnx; export it again, or take another seam than `prefix`"
            )
        needed = [name for name in self.manifest.graphs() if prefix or name != "sampler_prefix.onnx"]
        self._sessions, providers = {}, {}
        self._bound: dict[str, BoundGraph] = {}
        for name in needed:
            self._sessions[name], providers[name] = _open(bundle, name, wanted, threads, spinning)
        self.provider = providers["encoder.onnx"]
        if set(providers.values()) != {self.provider}:
            raise ProviderError(f"the graphs run on different providers, {providers}; ask for `cpu`")

    def encode(self, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """Turn the images of one instant, camera to (h, w, 3) uint8 RGB, into features (F,) float32.

        Images have the encoder's input size: see `ambient_policy.images.to_input`.
        """
        cameras = self.manifest.cameras
        if set(images) != set(cameras):
            raise InferenceError(f"images of {sorted(images)} given, the policy needs {sorted(cameras)}")
        feed = {}
        for name, camera in cameras.items():
            image = _as(images[name], f"image of `{name}`", (camera.height, camera.width, 3), np.uint8)
            feed[f"image_{name}"] = np.ascontiguousarray(image)[None]
        features = self._run("encoder.onnx", "features", feed)
        return _result(features, "features", (1, self.manifest.feature_size))[0]

    def sample(
        self,
        features: np.ndarray,
        state: np.ndarray,
        noise: np.ndarray,
        known: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Predict one chunk of actions.

        Args:
            features: (T, F) float32, of the T observed steps, newest last.
            state: (T, S), at the same instants; world, metres.
            noise: (H, A), standard normal; the same noise gives the same chunk.
            known: actions that are settled: (H, A) world, metres, and how well each is known, (H,) standard
                deviations [m], 0 for exactly and infinite for not at all. Needs `prefix`. Twice the work.
        Returns:
            (H, A) float64, world, metres; entry i is due (i + 1) periods after the newest observation.
        """
        size = (self.manifest.action.horizon, len(self.manifest.action.names))
        return self._sample(features, state, _as(noise, "noise", size, np.float64)[None], known)[0]

    def sample_several(self, features: np.ndarray, state: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Predict one chunk for each noise (N, H, A); returns (N, H, A). One call of the graph on a CPU."""
        if self.provider != "cpu":  # buffers there have one size
            return np.concatenate([self._sample(features, state, one[None]) for one in noise])
        return self._sample(features, state, noise)

    def _sample(
        self,
        features: np.ndarray,
        state: np.ndarray,
        noise: np.ndarray,
        known: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        spec = self.manifest
        size = (len(noise), spec.action.horizon, len(spec.action.names))
        features = _as(features, "features", (spec.obs_steps, spec.feature_size), np.float32)
        state = _as(state, "state", (spec.obs_steps, len(spec.state.names)), np.float64)
        noise = _as(noise, "noise", size, np.float64)
        feed = {"features": features, "state": self._state_map.apply(state)}
        graph = "sampler.onnx"
        if known is not None:
            graph = "sampler_prefix.onnx"
            feed |= self._known(*known, state[-1])
        ready = {k: np.repeat(v.astype(np.float32)[None], len(noise), axis=0) for k, v in feed.items()}
        chunk = self._run(graph, "chunk", {**ready, "noise": noise.astype(np.float32)})
        actions = self._action_map.invert(_result(chunk, "chunk", size).astype(np.float64))
        return actions + state[-1] if spec.action.relative_to == "tool" else actions

    def _run(self, graph: str, output: str, feed: dict[str, np.ndarray]) -> np.ndarray:
        try:
            if self.provider == "cpu":
                (result,) = self._sessions[graph].run([output], feed)
            else:
                if graph not in self._bound:
                    self._bound[graph] = self._bind(graph, output, feed)
                result = self._bound[graph](feed)
        except Exception as error:  # onnxruntime's own errors have no common base but Exception
            raise InferenceError(f"{graph} failed on {self.provider}: {error}") from error
        return result

    def _bind(self, graph: str, output: str, feed: dict[str, np.ndarray]) -> BoundGraph:
        shape = self.manifest.graphs()[graph][1][output].shape
        assert shape is not None
        sizes = tuple(1 if size is None else size for size in shape)
        return BoundGraph(_onnxruntime(), self._sessions[graph], feed, output, sizes)

    def _known(self, positions: np.ndarray, std_m: np.ndarray, tool: np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs that say which actions are known, in normalised units."""
        spec = self.manifest
        if "sampler_prefix.onnx" not in self._sessions:
            raise InferenceError("this policy was opened without `prefix`, so no action can be known to it")
        size = (spec.action.horizon, len(spec.action.names))
        positions = _as(positions, "known actions", size, np.float64)
        if np.shape(std_m) != size[:1] or np.isnan(std_m).any() or np.min(std_m) < 0:
            raise InferenceError(f"known actions are good to {std_m} m, needs {size[0]} values, none below 0")
        mask = np.isfinite(std_m)
        relative = positions - tool if spec.action.relative_to == "tool" else positions
        # Relative actions are scaled alike along every axis, absolute ones nearly: one variance does.
        scale = float(np.mean(self._action_map.scale))
        variance = np.where(mask, std_m, 0.0) ** 2 / scale**2
        columns = {"known_mask": mask[:, None], "known_variance": variance[:, None]}
        return {"known": self._action_map.apply(relative), **columns}

    def warm_up(self, calls: int = 3) -> None:
        """Call every graph on blank input: the first calls allocate, and on a GPU compile."""
        spec = self.manifest
        images = {k: np.zeros((c.height, c.width, 3), np.uint8) for k, c in spec.cameras.items()}
        state = np.tile(self._state_map.offset, (spec.obs_steps, 1))
        noise = np.zeros((spec.action.horizon, len(spec.action.names)))
        for _ in range(calls):
            features = np.stack([self.encode(images)] * spec.obs_steps)
            self.sample(features, state, noise)
            if "sampler_prefix.onnx" in self._sessions:
                still = np.tile(state[-1], (spec.action.horizon, 1))
                self.sample(features, state, noise, (still, np.zeros(len(still))))


def _open(
    bundle: Bundle, name: str, wanted: tuple[str, ...], threads: int, spinning: bool
) -> tuple[Any, str]:
    """Start a session on the first of `wanted` that really runs, and say which one it is."""
    if unknown := [w for w in wanted if w not in _EXECUTION_PROVIDERS]:
        raise ProviderError(f"provider is {unknown[0]!r}, needs auto, {', '.join(_EXECUTION_PROVIDERS)}")
    if threads < 1:
        raise ProviderError(f"threads is {threads}, needs 1 or more")
    ort = _onnxruntime()
    available = ort.get_available_providers()
    for word in wanted:
        provider = _EXECUTION_PROVIDERS[word]
        if provider not in available:
            continue
        try:
            session = _session(ort, str(bundle.folder / name), word, _options(ort, threads, spinning))
        except Exception as error:  # onnxruntime's own errors have no common base but Exception
            raise ProviderError(f"{bundle.folder / name} does not start on {word}: {error}") from error
        # The list of available providers is what was compiled in; only the session knows what works here.
        if session.get_providers()[0] == provider:
            return session, word
    raise ProviderError(
        f"provider {' or '.join(wanted)} does not run here; onnxruntime {ort.__version__} was built "
        f"for {', '.join(available)}. Ask for another provider, or {_INSTALL}"
    )


def _options(ort: Any, threads: int, spinning: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    # A GPU build without a usable GPU prints error lines and falls back; the check in `_open` says it better.
    options.log_severity_level = 4
    return options


def _session(ort: Any, path: str, word: str, options: Any) -> Any:
    if word == "cpu":
        return ort.InferenceSession(path, options, providers=[_EXECUTION_PROVIDERS["cpu"]])
    providers = [_EXECUTION_PROVIDERS[word], _EXECUTION_PROVIDERS["cpu"]]
    # One size of batch, or reshapes would ask for it on the CPU, where no CUDA graph reaches.
    options.add_free_dimension_override_by_name("batch", 1)
    try:
        return ort.InferenceSession(
            path, options, providers=providers, provider_options=[_CUDA_GRAPHS[word], {}]
        )
    except Exception:  # a graph with a node that the GPU lacks cannot be recorded, but it runs
        return ort.InferenceSession(path, options, providers=providers)


def _onnxruntime() -> Any:
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ProviderError(f"onnxruntime cannot be imported ({error}); {_INSTALL}") from error
    if not hasattr(ort, "InferenceSession"):
        # What is left when both variants were installed and one was then removed: an empty folder.
        raise ProviderError(f"onnxruntime is installed but empty; force a re-install, and {_INSTALL}")
    return ort


def _as(array: np.ndarray, what: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != shape:
        raise InferenceError(f"{what} has shape {array.shape}, the policy needs {shape}")
    if dtype == np.uint8:
        if array.dtype != np.uint8:
            raise InferenceError(f"{what} is {array.dtype}, the policy needs uint8, 0 to 255")
        return array
    if not np.isfinite(array).all():
        raise InferenceError(f"{what} has values that are not finite: {array[~np.isfinite(array)][:3]}")
    return array.astype(dtype, copy=False)


def _result(array: np.ndarray, what: str, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape:
        raise InferenceError(f"the policy gave {what} of shape {array.shape}, its manifest says {shape}")
    if not np.isfinite(array).all():
        raise InferenceError(f"the policy gave {what} that are not finite; this output must not move a robot")
    return array
