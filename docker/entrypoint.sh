#!/bin/sh
# Run the command that is given, in the place of this shell, so that it gets the signals. Airflow's Helm chart calls
# /entrypoint in its probes.
set -eu
exec "$@"
