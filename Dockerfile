# One hub. docker-compose.yml runs three of them behind nginx; docs/operations.md says what else an orchestrator needs.
#
# Node 22 on Debian: Node's own builds are made for glibc, those for Alpine's musl are experimental; with `slim` the
# difference in size is some 20 MB a machine, once. Nothing in here is compiled, so every architecture of the image will do.
FROM node:22-bookworm-slim AS build
WORKDIR /trainwire
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY client client
RUN npm run build

# What runs needs neither the compiler nor the tests.
FROM node:22-bookworm-slim AS dependencies
WORKDIR /trainwire
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:22-bookworm-slim
# Other containers must reach it. So it does not start without JWT_SECRET or JWT_PUBLIC_KEY.
ENV HOST=0.0.0.0 PORT=3000
WORKDIR /trainwire
COPY --from=dependencies /trainwire/node_modules node_modules
COPY package.json ./
COPY bin bin
COPY --from=build /trainwire/dist dist
# The image's user `node`, as numbers: Kubernetes' runAsNonRoot cannot judge names. It owns nothing in here, and the
# hub writes no file: the file system may be read-only.
USER 1000:1000
EXPOSE 3000
# Told to end, a hub drains (TRAINWIRE_DRAIN_MS, then TRAINWIRE_SHUTDOWN_MS): stop it with a grace of more than 30 s.
STOPSIGNAL SIGTERM
# For those who restart what is unhealthy. /healthz asks for the process alone; whether Redis answers is /readyz's
# matter, and a restart would mend nothing there. Node itself asks: the image has no other HTTP client.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "bin/trainwire.js"]
CMD ["serve"]
