"""The folder of compiled programs of `kernelgap run`."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from kernelgap.cli.compile_cache import cache_folder, kept_programs

SETTING = "jax_compilation_cache_dir"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELGAP_CACHE", str(tmp_path))
    return cache_folder()


def run(n):
    jax.clear_caches()
    return jax.jit(lambda x: x * 3 + n)(jnp.arange(7.0))


def programs(folder):
    return {path.name for path in folder.glob("*-cache")}


def test_programs_are_kept_and_found(folder):
    run(1)  # JAX settles whether there is a cache at its first compilation
    found = []
    jax.monitoring.register_event_listener(
        listener := lambda event, **_: found.append(event) if event.endswith("cache_hits") else None
    )
    try:
        with kept_programs():
            first = run(2)
        kept = programs(folder)
        assert kept
        assert not found
        with kept_programs():
            again = run(2)
        assert found
        run(3)  # after the command nothing is kept
        assert programs(folder) == kept
    finally:
        jax.monitoring.unregister_event_listener(listener)
    assert (first == again).all()


def test_settings_return_also_after_an_error(folder):
    def fail():
        with kept_programs():
            assert getattr(jax.config, SETTING) == str(folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert getattr(jax.config, SETTING) is None


def test_of_two_processes_one_uses_the_folder(folder):
    script = "from kernelgap.cli.compile_cache import kept_programs\nimport jax\n" + (
        f"with kept_programs(): print(jax.config.{SETTING})"
    )
    command = [sys.executable, "-c", script]
    with kept_programs():
        inside = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    outside = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert inside.strip() == "None"
    assert outside.strip() == str(folder)


def test_off_unwritable_and_a_cache_of_jax(folder, monkeypatch, tmp_path):
    jax.config.update(SETTING, str(tmp_path))
    try:
        assert cache_folder() is None
    finally:
        jax.config.update(SETTING, None)
    (tmp_path / "file").touch()
    for value in ("off", str(tmp_path / "file")):
        monkeypatch.setenv("KERNELGAP_CACHE", value)
        with kept_programs():
            assert getattr(jax.config, SETTING) is None
    monkeypatch.delenv("KERNELGAP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "kernelgap"
    assert os.listdir(tmp_path) == ["file"]
