"""What a build's container runs: BuildKit's daemon for this one build, the build, and an exit code that tells whose fault a failure is.

It is POSIX sh, for BuildKit's own image has no more. As the first process of its container it is also who hears the order to stop: when it ends, the kernel ends
the rest.
"""

from __future__ import annotations

USER_ERROR = 1  # a step ended with an exit code of its own: the same again would fail again
INFRASTRUCTURE = 75  # EX_TEMPFAIL of sysexits.h: the daemon, the network or the registry

SCRIPT = r"""
set -u
work=/tmp/hubdock
mkdir -p $work/nothing
printf '%s' "$HUBDOCK_DOCKERFILE" >$work/Dockerfile
printf '%s' "$HUBDOCK_CONFIG" >$work/buildkitd.toml
BUILDKIT_HOST="unix://$XDG_RUNTIME_DIR/buildkit/buildkitd.sock"
export BUILDKIT_HOST
stop() {
  trap '' TERM INT
  kill -TERM -1 2>/dev/null
  sleep 1
  kill -KILL -1 2>/dev/null
  exit 143
}
trap stop TERM INT
rootlesskit buildkitd --config $work/buildkitd.toml --oci-worker-no-process-sandbox --addr "$BUILDKIT_HOST" >$work/daemon 2>&1 &
daemon=$!
tries=0
until buildctl debug workers >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $daemon 2>/dev/null; then
    tail -n 20 $work/daemon
    exit 75
  fi
  sleep 0.1
done
for name in $HUBDOCK_ARGS; do
  eval "value=\$$name"
  set -- "$@" --opt "build-arg:$name=$value"
done
{
  buildctl build --progress rawjson --frontend dockerfile.v0 --local dockerfile=$work --local context=$work/nothing --metadata-file $work/metadata "$@" 2>&1
  echo $? >$work/code
} | tee $work/progress &
wait $!
code=$(cat $work/code)
kill -TERM $daemon 2>/dev/null
wait $daemon
if [ "$code" != 0 ]; then
  grep -q '"error":"process ' $work/progress && exit 1
  tail -n 20 $work/daemon
  exit 75
fi
tr -d ' \n' <$work/metadata | sed 's/.*"containerimage.digest":"\(sha256:[0-9a-f]*\)".*/\1/' >/dev/termination-log
exit 0
"""
