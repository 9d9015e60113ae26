"""Failures of training that a user can cause and cure."""

from __future__ import annotations

from ambient_policy.errors import AmbientPolicyError


class TrainingError(AmbientPolicyError):
    """A run cannot start, go on, or be exported."""
