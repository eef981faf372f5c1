# docker build -t bench . && docker run --rm -v "$PWD/results:/bench/results" bench
# Trains scale quick and rebuilds the report: `make repro`. Another scale: docker run ... bench make repro SCALE=cpu
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /bench
COPY constraints.txt pyproject.toml setup.py README.md LICENSE Makefile ./
COPY pipelines pipelines
COPY bench bench
COPY replication replication
RUN make .venv/.installed
COPY . .
CMD ["make", "repro"]
