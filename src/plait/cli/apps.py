"""The app and the settings that a command works with."""

from __future__ import annotations

from pathlib import Path

from plait.app import App, apply_env, find_app
from plait.settings import Settings, from_env


def open_app(
    directory: Path | None, *, model: str | None = None, max_concurrency: int | None = None
) -> tuple[App, Settings]:
    """The app in `directory`, else the nearest, else the bundled; settings from its section, environment, options.

    Raises AppError and SettingsError.
    """
    app = find_app(directory)
    apply_env(app)
    settings = from_env(section=app.section)
    return app, settings.override(model=model, max_concurrency=max_concurrency)


def whence(app: App) -> str:
    """Where an app is from, for people."""
    return "the app that comes with plait" if app.bundled else str(app.file)
