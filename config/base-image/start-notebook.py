#!/opt/conda/bin/python
"""The docker-stacks `start-notebook.py` contract: Jupyter as NOTEBOOK_ARGS and the arguments say, single-user where a hub asks for it."""
import os
import shlex
import sys

command = ["jupyterhub-singleuser"] if "JUPYTERHUB_API_TOKEN" in os.environ else ["jupyter", os.environ.get("DOCKER_STACKS_JUPYTER_CMD", "lab")]
command += shlex.split(os.environ.get("NOTEBOOK_ARGS", "")) + sys.argv[1:]
os.execvp(command[0], command)
