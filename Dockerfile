# hubdock's images for Kubernetes, which helm/hubdock runs:
#
#   docker build --target service -t registry.example.org/hubdock/service:0.1.0 .    hubdock's service
#   docker build --target hub     -t registry.example.org/hubdock/hub:0.1.0 .        a JupyterHub with hubdock, and configurable-http-proxy
#
# BASE is a Debian 12 or newer. Where the package indexes need a login, another address or a certificate of your own: --secret id=pip,src=pip.conf,
# --secret id=npm,src=.npmrc, --secret id=certificates,src=bundle.crt. They are read by single steps, and nothing of them stays. JUPYTERHUB says which (zero-to-jupyterhub
# wants the version of its own hub), PACKAGES are further Python packages for the hub, such as an authenticator.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS system
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates git openssh-client python3 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
RUN useradd --no-log-init --no-create-home --uid 1000 --user-group --home-dir /tmp --shell /usr/sbin/nologin hubdock \
 && install -d -o 1000 -g 1000 /srv/hubdock /srv/jupyterhub
# The file system of its pods is read-only but for /tmp and /srv.
ENV PATH=/opt/hubdock/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["tini", "-g", "--"]

# pip, which is in neither image, and the project without its code: what hubdock stands on is installed before, so that a change of code is built and pushed in seconds.
FROM system AS tools
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/pip
COPY pyproject.toml README.md LICENSE /src/
COPY hubdock/__init__.py /src/hubdock/

FROM tools AS wheel
COPY hubdock /src/hubdock
RUN --mount=type=cache,id=hubdock-pip,target=/tmp/pip --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
 && /opt/pip/bin/pip wheel --quiet --cache-dir /tmp/pip --no-deps --wheel-dir /wheel /src

# Both images share its layers.
FROM system AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ARG JUPYTERHUB="jupyterhub>=5.4.6,<7"
RUN --mount=type=bind,from=tools,source=/opt/pip,target=/opt/pip --mount=type=bind,from=tools,source=/src,target=/src \
    --mount=type=cache,id=hubdock-pip,target=/tmp/pip --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
 && python3 -m venv --without-pip /opt/hubdock \
 && /opt/pip/bin/pip --python /opt/hubdock/bin/python install --quiet --cache-dir /tmp/pip "/src[kubernetes,postgresql]" psycopg2-binary "${JUPYTERHUB}"

FROM packages AS service
RUN --mount=type=bind,from=tools,source=/opt/pip,target=/opt/pip --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/pip/bin/pip --python /opt/hubdock/bin/python install --quiet --no-cache-dir --no-deps --force-reinstall /wheel/*.whl
WORKDIR /srv/hubdock
USER 1000:1000
EXPOSE 9000
CMD ["python", "-m", "hubdock.service"]

# Version 5 of the proxy wants node 20.19, with which a CommonJS program may load ES modules; Debian 12 has node 18.
FROM system AS proxy
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
RUN --mount=type=secret,id=npm,target=/tmp/.npmrc --mount=type=secret,id=certificates \
    if [ -s /run/secrets/certificates ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/certificates; fi; \
    node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' && version=5 || version=4; \
    npm install --prefix /opt/proxy --omit=dev --no-audit --no-fund --loglevel=error "configurable-http-proxy@^$version"

# What zero-to-jupyterhub's configuration imports and starts, and logins that most teams have.
FROM packages AS hub
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && ln -s /opt/proxy/node_modules/.bin/configurable-http-proxy /usr/local/bin/configurable-http-proxy
COPY --from=proxy /opt/proxy /opt/proxy
ARG PACKAGES=""
RUN --mount=type=bind,from=tools,source=/opt/pip,target=/opt/pip \
    --mount=type=cache,id=hubdock-pip,target=/tmp/pip --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
 && /opt/pip/bin/pip --python /opt/hubdock/bin/python install --quiet --cache-dir /tmp/pip \
    jupyterhub-idle-culler jupyterhub-nativeauthenticator oauthenticator pycurl ${PACKAGES}
RUN --mount=type=bind,from=tools,source=/opt/pip,target=/opt/pip --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/pip/bin/pip --python /opt/hubdock/bin/python install --quiet --no-cache-dir --no-deps --force-reinstall /wheel/*.whl
WORKDIR /srv/jupyterhub
USER 1000:1000
EXPOSE 8081 8000
CMD ["jupyterhub"]
