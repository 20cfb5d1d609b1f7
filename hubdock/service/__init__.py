"""Floor 3: the JupyterHub service. Pages, a JSON API and metrics over one engine."""
