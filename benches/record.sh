#!/bin/sh
# Writes every record of the race into benches/record. Run it on a quiet machine, as root or as a
# user who may make namespaces; it takes about an hour. Topics may be named: benches/record.sh cold
set -eu
cd "$(dirname "$0")/.."
cargo build --release -p lendfile-cli -p lendfile-benches
[ $# -gt 0 ] || set -- article picture small warm uring cold h2 peers
for topic; do
    # A contestant that fails is in the record; the other topics go on.
    target/release/race --record "$topic" || echo "race --record $topic: see above" >&2
done
