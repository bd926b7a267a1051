# To be sourced: a node of this checkout in a scratch directory, stopped and removed at the end.

scratch=$(mktemp -d)
node_pid=
trap 'stop_node; rm -rf "$scratch"' EXIT
grapevine=${GRAPEVINE_BINARY:-target/release/grapevine}
# The program would take it for a misspelt variable of its own.
unset GRAPEVINE_BINARY
[ -x "$grapevine" ] || cargo build --release --locked

# start_node [ARGUMENT...]: on free loopback ports, with its data in $data (or $scratch/data).
start_node() {
  data=${data:-$scratch/data}
  rm -f "$data/listeners.json"
  "$grapevine" serve --data-dir "$data" --set bloomd.tcp=127.0.0.1:0 --set bloomd.udp=127.0.0.1:0 \
    --set http.listen=127.0.0.1:0 "$@" 2>"$scratch/node.log" &
  node_pid=$!
  for _ in $(seq 300); do
    [ -s "$data/listeners.json" ] && return
    kill -0 "$node_pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "the node did not start:" >&2
  cat "$scratch/node.log" >&2
  return 1
}

# stop_node: by its id, if it runs.
stop_node() {
  [ -n "$node_pid" ] || return 0
  kill "$node_pid" 2>/dev/null || true
  wait "$node_pid" 2>/dev/null || true
  node_pid=
}

# port KEY: of a listener.
port() {
  sed -n "s/.*\"$1\": \"[^\"]*:\([0-9]*\)\".*/\1/p" "$data/listeners.json"
}

# expect WHAT WANTED GOT
expect() {
  [ "$2" = "$3" ] && { echo "ok: $1"; return; }
  printf 'not ok: %s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3" >&2
  exit 1
}
