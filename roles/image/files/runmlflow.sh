#!/bin/sh
# Readies the volume and becomes the tracking server, which takes all its options from MLFLOW_* variables.
set -eu
umask 027
case $MLFLOW_BACKEND_STORE_URI in
sqlite:////*)
  database=/${MLFLOW_BACKEND_STORE_URI#sqlite:////}
  mkdir -p "$(dirname "$database")"
  # The write-ahead log stays on once it is set: readers no longer wait for the writer.
  python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA journal_mode=WAL")' "$database"
  ;;
esac
case $MLFLOW_ARTIFACTS_DESTINATION in
/*) mkdir -p "$MLFLOW_ARTIFACTS_DESTINATION" ;;
esac
exec mlflow server
