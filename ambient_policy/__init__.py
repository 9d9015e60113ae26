"""Core of Ambient Policy: what a robot needs to run a learned policy, and the files every stage shares.

The core knows numpy, and onnxruntime in `inference.py` alone. It imports no torch, no Drake and no rclpy, and
this package imports nothing heavy by itself, so `import ambient_policy` is quick on a robot computer.

Letters used in shapes
    B   batch
    T   observed steps given to the policy, oldest first, the present one last
    H   horizon: actions in one chunk
    A   size of one action                (planar pushing: 2, the tool's x and y)
    S   size of one state                 (planar pushing: 2, the tool's measured x and y)
    F   size of one feature vector: all cameras of one instant, encoded
    K   sampler steps; a noise ladder has K + 1 levels
    N   steps of an episode
    h, w  height and width of an image in pixels; images are (h, w, 3) uint8, RGB

Units
    SI throughout: metres, radians, seconds. A scalar's name ends in its unit (`period_s`, `width_m`).
    Image sizes are in pixels. `sigma` is the standard deviation of noise in normalised action units.

Frames
    world  W, z up, origin at the goal position of the pushed object on the table
    tool   T, the pusher's tip; the policy commands its position in the world's x-y plane
    `X_WT` is the pose of the tool in the world. yaw is about world z, in (-pi, pi].

Noise
    Everything inside is variance exploding: x = x0 + sigma z. `noise.py` converts other conventions.

Words
    chunk    H predicted actions, each due one control period after the one before
    window   T observations and H actions cut from one episode
    clean / target (p) and corrupt / source (q): the two origins of demonstrations
    band     an interval of sigma that a sample may teach
"""

from __future__ import annotations

__version__ = "0.1.0"
