"""What can go wrong in expected ways.

Every message says what is wrong, the value found, what is accepted and where to change it. The command line
prints the message without a traceback; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class AmbientPolicyError(Exception):
    """Base of every failure that a user can cause and cure."""


class ConfigError(AmbientPolicyError):
    """A setting is missing, unknown or out of range."""


class EpisodeError(AmbientPolicyError):
    """An episode cannot be written, or is not whole on disk."""


class BundleError(AmbientPolicyError):
    """A policy bundle is damaged, of another version, or does not agree with itself."""


class ProviderError(BundleError):
    """The requested accelerator cannot run this bundle on this machine."""


class InferenceError(AmbientPolicyError):
    """The policy was given, or has produced, something that must not reach a robot."""


class TrialError(AmbientPolicyError):
    """A trial could not be run, written or read."""
