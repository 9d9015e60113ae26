"""An annotation on disk: what was written comes back, and anything else is refused with a cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ambient_policy.annotation import (
    Annotation,
    AnnotationError,
    Bands,
    SourceAnnotation,
    in_millimetres,
    read_annotation,
    write_annotation,
)

INF = float("inf")


def make_annotation(**changes: Any) -> Annotation:
    corrupt = {
        "origin": "poor",
        "digest": "b" * 64,
        "role": "corrupt",
        "windows": 4,
        "sigma_min": INF,
        "mean_probability": (0.1, 0.3, 0.4),
        "per_window": True,
        "share_all": 0.25,
        "share_none": 0.25,
    }
    values: dict[str, Any] = {
        "commit": "test",
        "sigmas": (0.01, 0.1, 1.0),
        "tau": 0.05,
        "horizon": 16,
        "relative_to": "tool",
        "action_scale": (0.02, 0.02),
        "observed": False,
        "how": {"steps": 3},
        "accuracy": (0.9, 0.8, 0.6),
        "sources": ({"origin": "good", "digest": "a" * 64, "role": "clean", "windows": 9}, corrupt),
        "mixture": (1.0, 0.7, 0.4),
    }
    return Annotation.model_validate({**values, **changes})


def make_bands(**changes: Any) -> Bands:
    values = {
        "frames": np.array([0, 1, 5, 8]),
        "sigma_min": np.array([0.0, 0.3, 1.5, INF]),
        "sigma_max": np.array([0.0, 0.0, 0.1, 0.2]),
    }
    return Bands(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_annotation(tmp_path / "bands", make_annotation(), (None, make_bands()))


def test_what_is_written_comes_back_equal(folder: Path) -> None:
    annotation, (clean, bands) = read_annotation(folder)
    assert annotation == make_annotation()
    assert annotation.sources[1].sigma_min == INF
    assert clean is None
    assert bands is not None
    for name in ("frames", "sigma_min", "sigma_max"):
        np.testing.assert_array_equal(getattr(bands, name), getattr(make_bands(), name))


def test_bands_are_found_by_frame_in_any_order() -> None:
    sigma_min, sigma_max = make_bands().at(np.array([8, 1]))
    np.testing.assert_array_equal(sigma_min, [INF, 0.3])
    np.testing.assert_array_equal(sigma_max, [0.2, 0.0])


@pytest.mark.parametrize("frame", [2, 9, -1])
def test_a_window_without_a_band_is_an_error(frame: int) -> None:
    with pytest.raises(AnnotationError, match=f"1 of 2 windows have no band, the first at frame {frame}"):
        make_bands().at(np.array([1, frame]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sigma_min": np.array([0, 0.3, np.nan, 1])}, "sigma_min fails at frame 5, value nan"),
        ({"sigma_max": np.array([0, np.nan, 0, 0])}, "sigma_max fails at frame 1, value nan"),
        ({"sigma_min": np.array([0, -1, 1, 1.0])}, "sigma_min fails at frame 1, value -1.0"),
        ({"sigma_max": np.array([0, 0.4, 0, 0])}, "sigma_max <= sigma_min fails at frame 1, value 0.4"),
        ({"frames": np.array([0, 5, 1, 8])}, "`frames` must increase"),
        ({"frames": np.array([-1, 1, 5, 8])}, "whole numbers from 0 on"),
        ({"frames": np.array([0, 1, 5])}, "`frames` is \\(3,\\), needs one for each window, \\(4,\\)"),
    ],
)
def test_impossible_bands_are_refused_when_written_and_when_read(
    tmp_path: Path, folder: Path, changes: dict[str, Any], complaint: str
) -> None:
    bands = make_bands(**changes)
    with pytest.raises(AnnotationError, match=complaint):
        write_annotation(tmp_path / "other", make_annotation(), (None, bands))
    assert not (tmp_path / "other").exists()
    np.savez(
        folder / "bands_1.npz", frames=bands.frames, sigma_min=bands.sigma_min, sigma_max=bands.sigma_max
    )
    with pytest.raises(AnnotationError, match=complaint):
        read_annotation(folder)


def test_a_band_of_a_source_must_be_ordered_and_a_number() -> None:
    kept = {"origin": "o", "digest": "d", "role": "corrupt", "windows": 1}
    with pytest.raises(ValueError, match="sigma_max 0.5 is above sigma_min 0.2"):
        SourceAnnotation.model_validate({**kept, "sigma_min": 0.2, "sigma_max": 0.5})
    with pytest.raises(ValueError, match="sigma_min"):
        SourceAnnotation.model_validate({**kept, "sigma_min": float("nan")})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sigmas": (0.1, 0.1, 1.0)}, "increasing levels"),
        ({"sigmas": (0.1, 1.0)}, "accuracy has 3 values for 2 sigmas"),
        ({"sigmas": (0.1, float("nan"), 1.0)}, "sigmas.1"),
        ({"mixture": (0.5,)}, "mixture has 1 values for 3 sigmas"),
        ({"tau": 0.5}, "tau"),
        ({"receptive_field": (1, 5, 17)}, "within 1..16"),
        ({"sources": ()}, "sources"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_annotation(**changes)


def test_a_missing_or_damaged_file_is_named_with_a_cure(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="make one with `ambient-policy annotate`"):
        read_annotation(tmp_path / "nowhere")
    stored = folder / "bands_1.npz"
    whole = bytearray(stored.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    stored.write_bytes(whole)
    with pytest.raises(AnnotationError, match="bands_1.npz is damaged"):
        read_annotation(folder)
    stored.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AnnotationError, match="bands_1.npz is damaged"):
        read_annotation(folder)
    stored.unlink()
    with pytest.raises(AnnotationError, match="bands_1.npz is missing"):
        read_annotation(folder)
    (folder / "annotation.json").write_text("{")
    with pytest.raises(AnnotationError, match="annotation.json is damaged"):
        read_annotation(folder)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("version", 2, "version 2, this ambient-policy reads up to 1"),
        ("schema_name", "ambient_policy.bundle", "needs 'ambient_policy.annotation'"),
        ("surprise", 1, "unknown key"),
    ],
)
def test_another_kind_or_version_is_refused(folder: Path, key: str, value: Any, complaint: str) -> None:
    file = folder / "annotation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(AnnotationError, match=complaint):
        read_annotation(folder)


def test_nothing_is_written_over_and_bands_fit_the_sources(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="is there already"):
        write_annotation(folder, make_annotation(), (None, make_bands()))
    with pytest.raises(AnnotationError, match="1 sets of bands given for 2 sources"):
        write_annotation(tmp_path / "other", make_annotation(), (None,))
    with pytest.raises(AnnotationError, match="per_window True and its bands are missing"):
        write_annotation(tmp_path / "other", make_annotation(), (None, None))


def test_drawings_are_in_the_folder_before_it_has_its_name(tmp_path: Path) -> None:
    final = tmp_path / "bands"

    def draw(partial: Path) -> None:
        assert not final.exists()
        (partial / "picture.png").write_bytes(b"p")

    write_annotation(final, make_annotation(), (None, make_bands()), draw)
    assert (final / "picture.png").read_bytes() == b"p"


def test_a_level_is_said_in_millimetres() -> None:
    assert in_millimetres(0.5, (0.02, 0.02)) == "10 mm"
    assert in_millimetres(0.5, (0.02, 0.04)) == "10 x 20 mm"
    assert in_millimetres(INF, (0.02,)) == "inf"
