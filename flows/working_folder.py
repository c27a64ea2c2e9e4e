"""Prefect also reads settings from files of the working folder; they may name code to run. Here they are left alone."""

import os
from typing import Any

from reelsheet.surroundings.prefect_setup import prefect_profiles


def ignore() -> None:
    """From now on only the environment and Prefect's profile count, no `.env`, prefect.toml or pyproject.toml.

    To be called before prefect is imported.
    """
    os.environ["PREFECT_PROFILES_PATH"] = str(prefect_profiles())
    from pydantic_settings.sources import ConfigFileSourceMixin, DotEnvSettingsSource

    def nothing(*_: Any, **__: Any) -> dict[str, Any]:
        return {}

    # There is no setting for it.
    ConfigFileSourceMixin._read_files = nothing  # type: ignore[method-assign]  # noqa: SLF001
    DotEnvSettingsSource._read_env_files = nothing  # type: ignore[method-assign]  # noqa: SLF001
