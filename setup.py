"""Build of the package: in a wheel it holds the workflow, too."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# What `mfm run` needs of the checkout; mfm.calling.workflow looks for it in the package.
FILES = ("Snakefile", "config.yaml")
FOLDERS = ("configs", "profiles", "workflow")


class Build(build_py):
    """The package's modules and data, and below `mfm/checkout` the workflow."""

    def run(self):
        """Copy them; an editable installation has the checkout itself."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "mfm/checkout")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in FILES:
            shutil.copy(name, folder)
        for name in FOLDERS:
            shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))


if __name__ == "__main__":
    setup(cmdclass={"build_py": Build})
