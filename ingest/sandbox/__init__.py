"""An embedded local destination that enforces the documented rules.

`Sandbox` is the server; `SandboxSettings` says how it behaves.
"""

from ingest.sandbox.server import Sandbox, SandboxSettings

__all__ = ["Sandbox", "SandboxSettings"]
