"""A live 3-D view of the twin in a browser."""

from __future__ import annotations

from pydrake.geometry import Meshcat, MeshcatParams


def start_viewer(port: int | None = None) -> tuple[Meshcat, str]:
    """Start a Meshcat server that only this machine can reach; return it and the address to open.

    Args:
        port: where to listen; by default the first free one from 7000 on.
    """
    # Without a host it listens on every interface, and its page accepts commands from whoever opens it.
    meshcat = Meshcat(MeshcatParams(host="127.0.0.1", port=port))
    return meshcat, meshcat.web_url()
