"""hubdock: from a repository and a branch to JupyterLab."""

__version__ = "0.1.0"
