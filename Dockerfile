# Build: the project and what it needs, at the pinned versions, its hot path compiled.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY pyproject.toml constraints.txt README.md compile.py ./
COPY gateway gateway
COPY routing routing
COPY endpoints endpoints
COPY bench bench
RUN python -m venv /opt/inferway \
 && /opt/inferway/bin/pip install --no-cache-dir --constraint constraints.txt . \
 && python -m venv /opt/compiler \
 && /opt/compiler/bin/pip install --no-cache-dir --constraint constraints.txt '.[dev]' \
 && /opt/compiler/bin/python compile.py

# Run: the interpreter and that environment, nothing else.
FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home inferway
COPY --from=build /opt/inferway /opt/inferway
COPY --from=build /src/build/compiled /opt/compiled
ENV PATH=/opt/inferway/bin:$PATH PYTHONPATH=/opt/compiled PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8080 9002 9090
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s CMD \
  ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/healthz', timeout=1)"]
ENTRYPOINT ["inferway"]
CMD ["serve", "--config", "/etc/inferway/inferway.yaml"]
