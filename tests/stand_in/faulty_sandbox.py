"""The sandbox as a process whose answers can be scripted to go wrong."""

from pathlib import Path
from typing import Any, ClassVar

from reelsheet.sandbox.process import SandboxProcess

MATCHES = ("prompt", "image", "id", "nth")


class FaultySandbox(SandboxProcess):
    """A `SandboxProcess` with the layer of `sandbox_faults` around the stand-in."""

    program: ClassVar[tuple[str, ...]] = ("-P", str(Path(__file__).with_name("sandbox_faults.py")))

    def fault(self, at: str, *, times: int | None = None, charged: bool | None = None, **what: Any) -> None:
        """Script one fault: `fault("submit", prompt="cat", hang=True, charged=True)`.

        prompt, image, id and nth say which requests are meant; everything else is what goes wrong (`sandbox_faults.Do`).
        """
        match = {name: what.pop(name) for name in MATCHES if name in what}
        rule: dict[str, Any] = {"at": at, "match": match, "do": what}
        if times is not None:
            rule["times"] = times
        if charged is not None:
            rule["charged"] = charged
        self._call("POST", "/sandbox/faults", rule)

    def clear_faults(self) -> None:
        self._call("DELETE", "/sandbox/faults")
