#!/bin/bash
# The docker-stacks `start.sh` contract (https://jupyter-docker-stacks.readthedocs.io/en/latest/using/common.html#startup-hooks), unprivileged: source the
# startup hooks, then become the command. Run as root it steps down to jovyan; it grants nothing to anybody.
set -e
shopt -s nullglob
if [[ $(id -u) == 0 ]]; then exec setpriv --reuid=1000 --regid=100 --clear-groups env HOME=/home/jovyan USER=jovyan "$0" "$@"; fi
for hook in /usr/local/bin/start-notebook.d/*.sh /usr/local/bin/before-notebook.d/*.sh; do source "$hook"; done
if [[ $# == 0 ]]; then set -- start-notebook.py; fi
exec "$@"
