# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run. Each of them looks first, and does nothing where there is nothing to do.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log=${HUBDOCK_LOG:-${TMPDIR:-/tmp}/hubdock-setup-$(id -u).log}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Run a command with its output in the log; on failure show the log's end.
quietly() {
  local status=0
  "$@" >>"$log" 2>&1 || status=$?
  if ((status)); then tail -n 20 "$log" >&2; say "failed: $* (the whole log: $log)"; fi
  return "$status"
}

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; elif has sudo; then sudo -n "$@" || die "needs root for: $*"; else die "needs root for: $*"; fi
}

# apt_install PACKAGE...: from the machine's own apt sources, without what is only recommended. The lists are fetched once a run of make.
apt_install() {
  has apt-get || die "this needs ${*}: install it with this system's own tools (only Debian's apt is known here)"
  say "installing $* with apt"
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update -qq || true
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"
}

# Python, uv and node bring certificates of their own, which know nothing of a proxy that this machine trusts: point them at the system's.
trust_system_certificates() {
  local bundle
  for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [[ -s $bundle ]] || continue
    export SSL_CERT_FILE=$bundle PIP_CERT=${PIP_CERT:-$bundle} REQUESTS_CA_BUNDLE=${REQUESTS_CA_BUNDLE:-$bundle}
    export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$bundle}
    return 0
  done
}
