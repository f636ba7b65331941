# Stockpot in a container.
#
#   docker build -t stockpot .
#   docker run --rm -v stockpot:/data stockpot bot init          # writes /data/bot.toml
#   docker run -d -v stockpot:/data -e BOT_TOKEN -p 8080:8080 stockpot
#
# pip takes torch from the index it is set to. --build-arg PIP_EXTRA_INDEX_URL=... can name the one
# with the CPU builds, which are much smaller.

# This stage has the C compiler that builds the fast kernel; the image itself needs none.
FROM python:3.11-bookworm AS build

ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_NO_CACHE_DIR=1
WORKDIR /opt/stockpot
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot ./bot
COPY db ./db
COPY merge ./merge
COPY route ./route
RUN python -m venv /opt/venv
RUN /opt/venv/bin/pip install -c constraints.txt '.[postgres]'

FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 --create-home stockpot
RUN install --directory --owner stockpot --group stockpot /data
COPY --from=build /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BOT_HEALTH_PORT=8080
USER stockpot
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['BOT_HEALTH_PORT']}/healthz\", timeout=4)"]
CMD ["bot", "run"]
