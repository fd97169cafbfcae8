"""The commented spec that `oton init` writes."""

from __future__ import annotations

import re

STARTER = """\
# One app. Put this file into the watched directory, or run: oton apply {name}.yaml
# All fields, with their defaults: docs/spec.md. Check without a server: oton validate {name}.yaml

name: {name}                       # a-z, 0-9 and -, starts with a letter
image: {name}:latest               # better a version: every change of it becomes a release
port: 8000                         # the port that speaks HTTP in the container; leave it out for a worker
replicas: 2

# command: [gunicorn, app]         # instead of the image's own
environment:                       # shown to everybody who may read the app; not for passwords
  LOG_LEVEL: info

resources:                         # limits of each replica
  cpus: 1
  memory: 512M

# volumes: ["data:/var/lib/{name}"]  # named or /host/path; a single writer wants strategy: recreate

routes:
  - host: {name}.example.com       # leave the host out to answer for any host
    # path: /shop                  # only what is below this path
    # strip_path: true             # the app then sees / instead of /shop

health:
  path: /                          # ready once this answers 200-399
  interval: 1s
  # start_period: 10s              # failures at the start that do not count

strategy: rolling                  # or blue_green, recreate; a mapping with `type` for their options
deadline: 2m                       # from a replica's start to ready; beyond it the release fails
drain: 30s                         # the longest that open requests may take on a leaving replica
# bake: 1m                         # a release that fails within this time after the switch is undone

# before:                          # once per release, ahead of its first replica; failing stops it
#   command: [./manage.py, migrate]
#   timeout: 5m

# proxy:
#   timeout: 30s                   # request sent to response head
#   body_limit: 100M
"""


def render_starter(name: str) -> str:
    """Return a spec for *name* with comments that reads without a problem; *name* has to be a valid one."""
    return _COMMENTED.sub(_align, STARTER.format(name=name))


_COMMENTED = re.compile(r"^(.*\S) {2,}# (.*)$", re.MULTILINE)
_COLUMN = 33


def _align(line: re.Match[str]) -> str:
    # Names differ in length; the comments still stand below each other.
    return f"{line[1]:<{_COLUMN}}  # {line[2]}"
