"""A working folder full of files that leave a trace when a program takes them for its own."""

import json
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

MODULES: Final = {*sys.stdlib_module_names, *packages_distributions(), "sitecustomize", "usercustomize", "conftest"}
PACKAGES: Final = ("flows", "tasks", "reelsheet", "prefect")


class Trap:
    """`folder` to work in; `sprung()` names what was used of it."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "campaign"
        self._trace = place / "trace"
        self.folder.mkdir()
        for name in MODULES:
            if name.isidentifier() and name not in PACKAGES:
                self._write(f"{name}.py", self._code(f"{name}.py"))
        for name in PACKAGES:
            self._write(f"{name}/__init__.py", self._code(name))
        self._write("evil.pth", f"import io; {self._code('evil.pth')}")
        self._write("prefect.toml", self._settings(""))
        self._write("pyproject.toml", self._settings("tool.prefect"))
        profile = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_LOGGING_SETTINGS_PATH": self._logging()}
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in profile.items())
        self._write("profiles.toml", f'active = "evil"\n[profiles.evil]\n{"".join(lines)}')
        settings = profile | {
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_PROFILES_PATH": str(self.folder / "profiles.toml"),
            "PYTHONPATH": str(self.folder),
            "AWS_CONFIG_FILE": str(self.folder / ".aws" / "config"),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "SSL_CERT_FILE": "/nowhere",
        }
        del settings["PREFECT_API_URL"]  # .env may name a server
        self._write(".env", "".join(f"{name}={value}\n" for name, value in settings.items()))
        self._write(".aws/config", f"[default]\ncredential_process = {sys.executable} {self.folder / 'queue.py'}\n")
        self._write("prefect.yaml", "pull: [{prefect.deployments.steps.run_shell_script: {script: touch shell}}]\n")
        self._write(".prefect/profiles.toml", 'active = "evil"\n')

    def sprung(self) -> list[str]:
        """What was used, by names."""
        found = set(self._trace.read_text().split()) if self._trace.exists() else set()
        found |= {name for name in ("home", "shell") if (self.folder / name).exists()}
        return sorted(found)

    def _write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def _code(self, name: str) -> str:
        return f"print({name!r}, file=open({str(self._trace)!r}, 'a'))\n"

    def _settings(self, table: str) -> str:
        """Prefect's settings, as a file of the folder could have them."""
        nested = f"{table}.logging" if table else "logging"
        head = f"[{table}]\n" if table else ""
        home, logging = json.dumps(str(self.folder / "home")), json.dumps(self._logging())
        return f"{head}home = {home}\n[{nested}]\nsettings_path = {logging}\n"

    def _logging(self) -> str:
        """A logging configuration that runs a program."""
        program = [sys.executable, "-c", self._code("logging.yml")]
        handler = {"()": "subprocess.check_call", "args": program}
        self._write("logging.yml", json.dumps({"version": 1, "handlers": {"trap": handler}}))  # JSON is YAML
        return str(self.folder / "logging.yml")
