"""A provisioner that runs other kernelspecs' cells in a sandbox, and a server's policy for it.

When Jupyter starts a kernelspec, the provisioner reads only its name and its language. It starts an
AgentBay kernel of that language, or refuses. Nothing of the kernelspec itself runs.

Jupyter uses the provisioner for each kernelspec that names it. If
`JUPYTER_DEFAULT_PROVISIONER_NAME=agentbay-provisioner` is set, Jupyter also uses it for each
kernelspec that names no provisioner
(https://jupyter-client.readthedocs.io/en/stable/provisioning.html). In a server whose
`kernel_spec_manager_class` is `SandboxedKernelSpecManager`, every kernelspec that is not trusted
names it.
"""

from __future__ import annotations

from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import List, Unicode

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import KernelspecError, UnsupportedLanguageError
from agentbay_kernel.kernelspec import CLOUD_KERNELS, LOCAL_KERNELS, Kernelspec
from agentbay_kernel.languages import Language, find_language

NAME = "agentbay-provisioner"


class AgentBayProvisioner(LocalProvisioner):
    """Starts an AgentBay kernel in place of any kernelspec whose language it runs."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Replace the requested kernelspec with ours, unless it is trusted.

        Raises:
            KernelspecError: there is no AgentBay kernel for its language.
            ConfigurationError: a setting is invalid.
        """
        name = getattr(self.parent, "kernel_name", "")
        if name not in load_settings().trusted_kernels:
            ours = _replacement(name, self.kernel_spec.language)
            if ours is None:
                raise KernelspecError(
                    f"The kernel {name!r} was not started: its language is "
                    f"{self.kernel_spec.language!r}, and {NAME} runs Python and JavaScript, in the "
                    "sandbox. To run it on this machine, name it in AGENTBAY_TRUSTED_KERNELS."
                )
            replacement = ours.read()
            # Changed in place: the kernel manager has the same object, and uses its interrupt mode.
            for field in ("argv", "env", "interrupt_mode", "metadata"):
                setattr(self.kernel_spec, field, replacement.get(field, {}))
        return await super().pre_launch(**kwargs)


class SandboxedKernelSpecManager(KernelSpecManager):
    """The kernels of a server on whose machine only trusted kernels run."""

    trusted_kernels = List(
        Unicode(),
        help="Kernels that are started as they are, on this machine, besides those that the "
        "setting of this name in AgentBaySettings lists.",
    ).tag(config=True)

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernelspec of that name, with our provisioner unless it is trusted.

        Raises:
            NoSuchKernel: there is no such kernelspec.
        """
        spec = super().get_kernel_spec(kernel_name)
        if kernel_name not in self._trusted():
            spec.metadata = {**spec.metadata, "kernel_provisioner": {"provisioner_name": NAME}}
        elif "kernel_provisioner" not in spec.metadata:
            # Named, because the default provisioner may be ours.
            local = {"provisioner_name": "local-provisioner"}
            spec.metadata = {**spec.metadata, "kernel_provisioner": local}
        return spec

    def get_all_specs(self) -> dict[str, Any]:
        """Return the kernels that can be started, by name."""
        trusted = self._trusted()
        return {
            name: found
            for name, found in super().get_all_specs().items()
            if name in trusted or is_sandboxed(name, found["spec"].get("language"))
        }

    def _trusted(self) -> list[str]:
        return [*self.trusted_kernels, *load_settings().trusted_kernels]


def is_sandboxed(name: str, language: object) -> bool:
    """Return whether a kernel of that name and language runs in the sandbox."""
    return _replacement(name, language) is not None


def kernel_of(language: Language) -> Kernelspec:
    """Return the AgentBay kernel that replaces every kernelspec of that language."""
    return next(ours for ours in CLOUD_KERNELS if ours.name == f"agentbay-{language.name}")


def kernel_manager(kernel: Kernelspec) -> AsyncKernelManager:
    """Return a manager that starts this kernel, whatever is installed under its name."""

    class OursOnly(KernelSpecManager):
        """Has only that kernel, of the Python that runs this."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            """Return that kernel for any name."""
            return KernelSpec(resource_dir="", **kernel.read())

    return AsyncKernelManager(kernel_name=kernel.name, kernel_spec_manager=OursOnly())


def _replacement(name: str, language: object) -> Kernelspec | None:
    for ours in (*CLOUD_KERNELS, *LOCAL_KERNELS):
        if ours.name == name:
            return ours
    try:
        return kernel_of(find_language(str(language)))
    except UnsupportedLanguageError:
        return None
