"""A policy bundle: the folder that training hands to a robot.

    encoder.onnx    images of one instant -> features, per frame
    sampler.onnx    T features and states, and noise -> one normalised action chunk (K steps unrolled)
    sampler_prefix.onnx   the same, knowing some of the actions already; not in every bundle
    manifest.json   cameras, state, action, rates, normaliser, noise ladder, origin, SHA-256 of every file

`load_bundle` checks all of it and needs no inference library; `inference.Policy` runs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ambient_policy.config import nearest, parse
from ambient_policy.documents import read_document
from ambient_policy.errors import BundleError, ConfigError
from ambient_policy.folders import sha256, whole_folder
from ambient_policy.manifest import (
    SCHEMA,
    VERSION,
    ActionSpec,
    CameraInput,
    Manifest,
    Normalizers,
    NormalizerSpec,
    Quantised,
    SamplerSpec,
    VectorSpec,
)
from ambient_policy.onnx_header import Tensor, read_header

__all__ = [
    "ActionSpec",
    "Bundle",
    "CameraInput",
    "Manifest",
    "NormalizerSpec",
    "Normalizers",
    "Quantised",
    "SamplerSpec",
    "VectorSpec",
    "load_bundle",
    "write_bundle",
]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle on disk."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which holds those of all other files: names this very bundle."""
        return sha256(self.folder / MANIFEST)


def write_bundle(folder: str | Path, manifest: Manifest, files: Mapping[str, str | Path]) -> Bundle:
    """Copy `files` (name in the bundle -> path) into a new folder with their manifest, and check the result.

    Every graph of `manifest.graphs()` is required; further files, such as a licence or the training config,
    are carried and hashed too. `manifest.files` is filled in here. Nothing is left behind when a check fails.
    """
    folder = Path(folder)
    if folder.exists():
        raise BundleError(f"{folder} is already there; remove it or choose another folder")
    with whole_folder(folder) as partial:
        for name, source in files.items():
            if name == MANIFEST or Path(name).name != name:
                raise BundleError(
                    f"bundle file name {name!r} is not usable; needs a plain name, not {MANIFEST}"
                )
            shutil.copyfile(source, partial / name)
        digests = {name: sha256(partial / name) for name in sorted(files)}
        try:
            full = parse({**manifest.model_dump(mode="json"), "files": digests}, Manifest, "the new manifest")
        except ConfigError as error:
            raise BundleError(str(error)) from error
        (partial / MANIFEST).write_text(full.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _refuse(folder, list(_problems(partial, full)))
    return Bundle(folder, full)


def load_bundle(folder: str | Path) -> Bundle:
    """Check a bundle completely and return it.

    Raises:
        BundleError: lists every problem: schema, version, hashes, stray files, inputs and outputs of graphs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"no bundle folder at {folder}; make one with `ambient-policy export`")
    manifest = read_document(folder / MANIFEST, Manifest, SCHEMA, VERSION, BundleError)
    _refuse(folder, list(_problems(folder, manifest)))
    return Bundle(folder, manifest)


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        lines = [f"bundle {folder} cannot be used:", *(f"  {problem}" for problem in problems)]
        raise BundleError("\n".join([*lines, "copy it again from its origin, or export it again"]))


def _problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    yield from manifest.disagreements()
    listed = dict.fromkeys([*manifest.graphs(), *manifest.files])
    for name in listed:
        file = folder / name
        if name not in manifest.files:
            yield f"{name} is not listed in {MANIFEST}"
        elif not file.is_file():
            yield f"{name} is missing"
        elif sha256(file) != manifest.files[name]:
            yield f"{name} is not the file that {MANIFEST} describes (SHA-256 differs)"
    # Weights kept beside a graph would be read by the runtime without having been checked, so nothing may
    # stand here unlisted. Hidden files are left alone: desktops and file shares drop them everywhere.
    for file in sorted(folder.iterdir()):
        if file.name not in listed and file.name != MANIFEST and not file.name.startswith("."):
            yield f"{file.name} is not listed in {MANIFEST}; remove it"
    for name, (inputs, outputs) in manifest.graphs().items():
        if (folder / name).is_file():
            yield from _graph_problems(folder / name, inputs, outputs)


def _graph_problems(file: Path, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Iterator[str]:
    try:
        header = read_header(file)
    except ValueError as error:
        yield f"{file.name} cannot be read: {error}"
        return
    if header.external_data:
        yield f"{file.name} keeps weights in another file; export it with its weights inside"
    for kind, need, have in (("input", inputs, header.inputs), ("output", outputs, header.outputs)):
        for name in sorted(set(have) - set(need)):
            yield f"{file.name} has {kind} `{name}`, which the manifest does not name; {nearest(name, need)}"
        for name, tensor in need.items():
            if name not in have:
                yield f"{file.name} has no {kind} `{name}`; it has {', '.join(sorted(have)) or 'none'}"
            elif not _fits(have[name], tensor):
                yield f"{file.name} {kind} `{name}` is {have[name]}, the manifest needs {tensor}"


def _fits(have: Tensor, need: Tensor) -> bool:
    if have.dtype != need.dtype:
        return False
    if have.shape is None or need.shape is None:
        return True
    return len(have.shape) == len(need.shape) and all(
        a is None or b is None or a == b for a, b in zip(have.shape, need.shape, strict=True)
    )
