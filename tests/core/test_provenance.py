"""The commit written into files is this tree's, and never some other repository's."""

from __future__ import annotations

import subprocess

import pytest

from ambient_policy import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a repository with one commit, cut off from the user's git settings and our environment."""
    monkeypatch.delenv("AMBIENT_POLICY_COMMIT", raising=False)
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    provenance._describe.cache_clear()
    return tmp_path.resolve()


def test_names_the_commit_and_says_when_it_is_dirty(repository):
    """A run from changed sources must be told apart from the commit."""
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    clean = provenance._describe(repository)
    assert len(clean) >= 7
    assert head.startswith(clean)
    (repository / "file").write_text("2")
    provenance._describe.cache_clear()
    assert provenance._describe(repository) == f"{clean}-dirty"


def test_a_package_inside_another_repository_does_not_borrow_its_commit(repository):
    """The site-packages of a venv often lie within the user's own repository."""
    inside = repository / ".venv"
    inside.mkdir()
    assert provenance._describe(inside) == "unknown"


def test_outside_git_and_without_git(tmp_path, monkeypatch):
    """No repository, and no git at all."""
    assert provenance._describe(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance._describe.cache_clear()
    assert provenance._describe(tmp_path) == "unknown"


def test_the_environment_wins(monkeypatch):
    """For containers built without the history."""
    monkeypatch.setenv("AMBIENT_POLICY_COMMIT", "v1.2-container")
    assert provenance.commit() == "v1.2-container"
