#!/bin/sh
# For cron: looks whether all is well, keeps a backup of this night, and what can be gone back to.
# The Worker runs on. Usage: nightly.sh DATA_DIRECTORY FOLDER_OF_BACKUPS
set -eu
state=$1
backups=$2
today=$(date -u +%Y-%m-%d)

mkdir -p "$backups"
# Ends the script, and cron sends a mail, where something is wrong.
bunflare state check --persist-to "$state"
bunflare state backup "$backups/$today.tar.gz" --force --persist-to "$state"
# A snapshot shares its files with the state, so a week of them costs little.
bunflare state snapshot drop "$today" --persist-to "$state" 2>/dev/null || true
bunflare state snapshot create "$today" --persist-to "$state"
bunflare state prune --keep-snapshots 7 --persist-to "$state"
