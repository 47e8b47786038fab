#!/usr/bin/env bash
# Shows a whole cluster on this machine: 3 servers and 3 agents on loopback run the
# example jobs; new versions of a service are rolled out, a good one and a bad one; a task,
# an agent and the leader are killed, and each recovers. Leaves nothing behind. `make demo`
# builds what it needs and calls it.
set -euo pipefail

cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then
  echo 'The exec driver isolates tasks, which takes root: the demo goes on by sudo.'
  exec sudo --preserve-env=BERTH_BINARY -- "$PWD/e2e/demo/demo.sh"
fi
berth=${BERTH_BINARY:-$PWD/.build/berth}
dir=$(mktemp -d /tmp/berth-demo.XXXXXX)
export BERTH_ADDR=127.0.0.1:17461,127.0.0.1:27461,127.0.0.1:37461 NO_COLOR=1
declare -A pids # of the daemons, by name
began=$SECONDS

bold='' plain=''
[ -t 1 ] && bold=$'\033[1m' plain=$'\033[0m'
say() { printf '\n%s== %s%s  (%d s)\n' "$bold" "$*" "$plain" $((SECONDS - began)); }
note() { printf '   %s\n' "$*"; }

# stop NAME SIGNAL: end a daemon of this demo and wait until it has ended.
stop() {
  local pid=${pids[$1]:-}
  [ -n "$pid" ] || return 0
  kill "-$2" "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  unset "pids[$1]"
}

cleanup() {
  local code=$?
  trap - EXIT INT TERM
  if [ "$code" -ne 0 ]; then
    printf '\nThe demo failed. The last lines of the logs:\n'
    tail -n 15 "$dir"/*.log 2>/dev/null || true
  fi
  for job in shop web primes watch-load vm; do "$berth" job stop -purge -yes -detach "$job" >/dev/null 2>&1 || true; done
  for _ in $(seq 50); do # the agents stop what they run
    [ "$(shims)" -eq 0 ] && break
    sleep 0.2
  done
  for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null || true; done
  for name in "${!pids[@]}"; do wait "${pids[$name]}" 2>/dev/null || true; done
  if [ "$(shims)" -ne 0 ]; then
    printf 'tasks of this demo are left: %s\n' "$(pgrep -f "$dir" | tr '\n' ' ')"
    code=1
  fi
  rm -rf "$dir"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# shims counts the task supervisors and machines that belong to this demo, by the directory that they work in.
shims() {
  local n=0 pid
  for pid in $(pgrep -f '^berth-shim|^[^ ]*qemu-system' || true); do
    case $(readlink "/proc/$pid/cwd" || true) in "$dir"/*) n=$((n + 1)) ;; esac
  done
  echo "$n"
}

server() { # server N: its ports begin with N
  local n=$1
  "$berth" server -name "s$n" -data-dir "$dir/s$n" -bootstrap-expect 3 \
    -http-addr "127.0.0.1:${n}7460" -grpc-addr "127.0.0.1:${n}7461" -raft-addr "127.0.0.1:${n}7462" -gossip-addr "127.0.0.1:${n}7463" \
    -join 127.0.0.1:17463,127.0.0.1:27463,127.0.0.1:37463 >>"$dir/s$n.log" 2>&1 &
  pids[s$n]=$!
}

agent() { # agent N: its ports begin with N as well, as the three share this machine
  local n=$1
  printf 'agent {\n  min_port = %s2000\n  max_port = %s2999\n  dns {\n    address = "127.0.0.1:%s7464"\n  }\n  qemu {\n    image_dirs = ["%s"]\n  }\n}\n' "$n" "$n" "$n" "$PWD/.build" >"$dir/a$n.hcl"
  "$berth" agent -name "n$n" -data-dir "$dir/n$n" -config "$dir/a$n.hcl" -servers "$BERTH_ADDR" >>"$dir/n$n.log" 2>&1 &
  pids[n$n]=$!
}

# until_true SECONDS COMMAND...: waits until the command succeeds.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { note "waited too long for: $*"; return 1; }
    sleep 0.1
  done
}

leader() { "$berth" server members -t '{{range .}}{{if .leader}}{{.name}}{{end}}{{end}}'; }
has_leader() { [ -n "$(leader)" ]; }
ready_nodes() { "$berth" node status -t '{{range .}}{{if eq .status "ready"}}{{.name}} {{end}}{{end}}'; }
nodes_ready() { [ "$(ready_nodes | wc -w)" -eq 3 ]; }

# web FIELD...: prints fields of each running instance of the web service.
web() { "$berth" alloc status -filter 'job == "web" and status == "running" and desired == "run"' -t "{{range .}}$1{{\"\\n\"}}{{end}}"; }
web_urls() { web '{{range .assignment.ports}}http://{{.address}}:{{.port}}/{{end}}'; }
web_runs() { [ "$(web_urls | grep -c http)" -eq 3 ]; }
web_answers() { web_runs && for url in $(web_urls); do curl -fsS --max-time 2 "$url" || return 1; done; }

# shop FLAG...: runs a version of the service of examples/rollout.hcl.
shop() { "$berth" job run -var hello="$PWD/.build/hello" "$@" examples/rollout.hcl; }
# ask_shop asks each instance that gets traffic, and prints what versions answer.
ask_shop() {
  local at
  for at in $("$berth" service info -ready -t '{{range .instances}}{{.address}}:{{.port}} {{end}}' shop); do
    curl -fsS --max-time 2 "http://$at/" || return 1
  done | awk '{ print $NF }' | sort | uniq -c | awk '{ printf "%s%d of %s", sep, $1, $2; sep = ", " } END { print "" }'
}
shop_is() { [ "$(ask_shop)" = "$1" ]; }
# rollout prints the id of the newest roll-out.
rollout() { "$berth" job status -t '{{.deployment.id}}' shop; }
canary_waits() { "$berth" deployment status "$(rollout)" | grep -q 'to be promoted'; }

say "3 servers and 3 agents start on loopback"
for n in 1 2 3; do server $n; done
until_true 30 has_leader
for n in 1 2 3; do agent $n; done
until_true 30 nodes_ready
"$berth" server members
"$berth" node status

tiny=$PWD/.build/tiny.img
vm() { "$berth" alloc status -filter 'job == "vm"' -t '{{range .}}{{.id}}{{end}}'; }
if [ -e "$tiny" ]; then
  say "a virtual machine boots meanwhile"
  "$berth" job run -detach -var image="$tiny" examples/vm.hcl
fi

say "a web service of 3, on different nodes"
"$berth" job run -wait 30s -var hello="$PWD/.build/hello" examples/web.hcl
until_true 20 web_answers
web_answers | sed 's/^/   /'

say "a batch job and a system job"
"$berth" job run -wait 30s examples/batch.hcl
"$berth" job run -wait 30s examples/system.hcl
"$berth" job status
batch=$("$berth" alloc status -filter 'job == "primes"' -t '{{(index . 0).id}}')
note "the last lines of the batch job's output:"
"$berth" alloc logs -n 2 "$batch" | sed 's/^/   /'

say "a new version: a canary first, then the others"
shop
shop -detach -var version=v2
until_true 20 canary_waits
note "the canary is well, and is not asked before it is promoted: $(ask_shop)"
"$berth" deployment promote "$(rollout)" >/dev/null
"$berth" deployment status -monitor "$(rollout)"
until_true 20 shop_is '3 of v2'
note "those who answer: $(ask_shop)"

say "a version that does not work: the service goes back by itself"
code=0
shop -var version=v3 -var broken=true || code=$?
[ "$code" -eq 1 ] || { note "exit code $code, want 1"; exit 1; }
"$berth" deployment status -monitor "$(rollout)" >/dev/null
"$berth" deployment list -job shop
shop_is '3 of v2' || { note "those who answer: $(ask_shop)"; exit 1; }
note "it was never asked: $(ask_shop)"
"$berth" job stop -purge -yes shop

if [ -e "$tiny" ]; then
  say "the virtual machine greets; it is paused, goes on, and is powered down"
  greeted() { "$berth" alloc logs -all "$(vm)" | grep -q 'Hello from a Berth guest'; }
  until_true 60 greeted
  "$berth" alloc console -linger 100ms "$(vm)" </dev/null | tr -d '\r' | grep -a -A 1 'Hello' | sed 's/^/   /'
  "$berth" alloc pause "$(vm)"
  "$berth" alloc resume "$(vm)"
  "$berth" job stop -purge -yes vm
fi

say "a task is killed: it is started again where it was"
pid=$(web '{{range .tasks}}{{.pid}}{{end}}' | head -n 1)
id=$(web '{{.id}}' | head -n 1)
kill -9 "$pid"
restarted() { "$berth" alloc status -t '{{range .tasks}}{{if and (eq .phase "started") .restarts}}yes{{end}}{{end}}' "$id" | grep -q yes; }
until_true 20 restarted
until_true 20 web_answers
note "process $pid was killed; allocation ${id%%-*} runs again, and all 3 answer"

say "an agent is killed: its tasks go on, and are taken up again"
before=$(pgrep -f "$PWD/.build/hello|^/hello" | sort | tr '\n' ' ')
stop n1 KILL
web_answers >/dev/null && note "the agent of n1 is dead; all 3 still answer"
agent 1
until_true 30 nodes_ready
until_true 20 web_answers
after=$(pgrep -f "$PWD/.build/hello|^/hello" | sort | tr '\n' ' ')
[ "$before" = "$after" ] || { note "processes changed: $before-> $after"; exit 1; }
note "it is back; the processes are the same ones: $after"

say "the leader is killed: another one takes over"
old=$(leader)
stop "$old" KILL
killed=$SECONDS
new_leader() { local l; l=$(leader) && [ -n "$l" ] && [ "$l" != "$old" ]; }
until_true 30 new_leader
note "$old led, now $(leader) does"
"$berth" job scale web 4
four_run() { [ "$(web_urls | grep -c http)" -eq 4 ]; }
until_true 30 four_run
note "the web service was scaled to 4 meanwhile, $((SECONDS - killed)) s after the kill"
server "${old#s}"
members_alive() { [ "$("$berth" server members -t '{{range .}}{{if eq .state "alive"}}x{{end}}{{end}}')" = xxx ]; }
until_true 30 members_alive
note "$old is back"

say "how it is now"
"$berth" job status web

say "everything is stopped, nothing is left"
