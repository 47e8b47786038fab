#!/usr/bin/env python3
"""A scheduler for Berth, complete, with nothing but Python's standard library.

It registers under a name, claims the evaluations of jobs that name it, and puts each
instance on the node with the fewest allocations, one rack after the other. Which cores,
memory and ports that are it leaves to Berth. It keeps a picture of its own of the nodes
and of what is on them, from one snapshot and the changes since.

    scheduler.py [-api http://127.0.0.1:7460,...] [-name example] [-ttl 10]

What can go wrong is handled where it happens: a conflict (somebody was faster) is tried
elsewhere; a server that is away or has no leader is tried again, on the next address; a
lease that is gone (another server leads, or we were too slow) is taken anew. SIGTERM gives
everything back. docs/external-schedulers.md explains the protocol.
"""
import argparse, collections, json, os, signal, socket, sys, threading, time
import urllib.error, urllib.parse, urllib.request


class Problem(Exception):
    """An error of the API: kind says what to do, the text is for people."""

    def __init__(self, status, kind, field, text):
        super().__init__(text)
        self.status, self.kind, self.field = status, kind, field


class API:
    """Berth over HTTP. Any server answers; one that cannot is left for the next."""

    def __init__(self, addresses):
        self.addresses = collections.deque(a.rstrip("/") for a in addresses.split(","))

    def open(self, path, body=None, timeout=70):
        request = urllib.request.Request(self.addresses[0] + path, method="GET" if body is None else "POST",
                                         data=None if body is None else json.dumps(body).encode())
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as e:
            try:
                p = json.load(e)["error"]
            except (ValueError, KeyError):
                p = {}
            raise Problem(e.code, p.get("kind", "internal"), p.get("field", ""), p.get("reason", str(e)))
        except OSError as e:  # refused, reset, timed out
            self.addresses.rotate(-1)
            raise Problem(0, "unavailable", "", str(e))

    def post(self, path, body):
        with self.open(path, body) as answer:
            return json.load(answer)


class Picture:
    """The nodes and how many allocations each has, kept up to date by a thread.

    A snapshot says how it is at one revision, the change stream what happened since: the
    two together never miss anything and never mix revisions.
    """

    def __init__(self, api):
        self.api, self.lock = api, threading.Lock()
        self.nodes, self.allocs, self.revision = {}, {}, 0
        self.ready = threading.Event()

    def follow(self):
        while True:
            try:
                self.read_snapshot()
                self.ready.set()
                self.read_changes()
            except (Problem, OSError, ValueError) as e:
                print("picture:", e, "- reading it anew", flush=True)
                time.sleep(0.5)

    def read_snapshot(self):
        nodes, allocs, revision, whole = {}, {}, 0, False
        with self.api.open("/v1/scheduler/snapshot") as lines:
            for line in lines:
                record = json.loads(line)
                if "header" in record:
                    revision = int(record["header"]["revision"])
                elif "node" in record:  # also says what is free: record["node"]["cells"] and so on
                    nodes[record["node"]["node"]["id"]] = record["node"]["node"]
                elif "alloc" in record:
                    allocs[record["alloc"]["id"]] = record["alloc"]["node_id"]
                whole = "end" in record
        if not whole:
            raise ValueError("the snapshot was cut short")
        with self.lock:
            self.nodes, self.allocs, self.revision = nodes, allocs, revision

    def read_changes(self):
        with self.api.open("/v1/scheduler/changes?index=%d" % self.revision, timeout=30) as lines:
            for line in lines:  # a heartbeat comes every 10 s, so a dead connection is noticed
                event = json.loads(line)
                if "error" in event:
                    raise ValueError(event["error"]["reason"])
                with self.lock:
                    self.take(event)
                    self.revision = int(event["index"])

    def take(self, event):
        if event["topic"] == "node":
            if "node" in event:
                self.nodes[event["key"]] = event["node"]
            else:
                self.nodes.pop(event["key"], None)
        elif event["topic"] == "alloc":
            alloc = event.get("alloc")
            if alloc and alloc["status"] not in ("complete", "failed"):  # it holds its grant
                self.allocs[event["key"]] = alloc["node_id"]
            else:
                self.allocs.pop(event["key"], None)

    def choose(self, without):
        """The node with the fewest allocations, of the rack that has the fewest."""
        with self.lock:
            load = collections.Counter(self.allocs.values())
            nodes = [n for n in self.nodes.values()
                     if n["status"] == "ready" and n["eligibility"] == "eligible" and n["id"] not in without]
            rack = lambda n: n["meta"].get("rack", "")
            racks = collections.Counter()
            for n in self.nodes.values():
                racks[rack(n)] += load[n["id"]]
            return min(nodes, key=lambda n: (racks[rack(n)], load[n["id"]], n["id"]), default=None)

    def note(self, alloc_id, node_id):
        """What we have placed counts at once; the change stream says the same a little later."""
        with self.lock:
            self.allocs[alloc_id] = node_id


class Scheduler:
    def __init__(self, api, name, ttl):
        self.api, self.name, self.ttl = api, name, ttl
        self.picture, self.lease = Picture(api), None
        self.instance = "%s:%d" % (socket.gethostname(), os.getpid())

    def run(self):
        # The picture has its own connection; an address that fails one need not fail the other.
        self.picture.api = API(",".join(self.api.addresses))
        threading.Thread(target=self.picture.follow, daemon=True).start()
        threading.Thread(target=self.renew, daemon=True).start()
        self.picture.ready.wait()
        while True:
            try:
                self.work()
            except Problem as e:
                if e.kind == "not_found" and e.field == "lease":
                    self.lease = None  # another server leads, or we were too slow
                    continue
                print("%s: %s" % (self.name, e), flush=True)
                if e.kind not in ("conflict", "unavailable", "timeout"):
                    time.sleep(1)  # nothing that passes by itself: do not hammer
                time.sleep(0.2)

    def work(self):
        if self.lease is None:
            self.lease = self.api.post("/v1/scheduler/register", {
                "name": self.name, "instance": self.instance, "ttl": "%ds" % self.ttl,
                "description": "fewest allocations first, rack by rack"})["lease"]
            print("registered as", self.name, flush=True)
        claimed = self.api.post("/v1/scheduler/claim", {"lease": self.lease, "max": 8, "wait": "30s"})
        for evaluation in claimed["evaluations"]:
            self.place(evaluation)

    def place(self, evaluation):
        """Places what an evaluation lacks, or gives it back with the reason why not."""
        name, eval_id = evaluation["job"]["name"], evaluation["evaluation_id"]
        wanted, refused, last = evaluation["wanted"], collections.defaultdict(set), ""
        for _ in range(10):  # each time without the nodes that did not do
            plan = []
            for w in wanted:
                for index in range(w["index"], w["index"] + w["count"]):
                    node_id = w["node_id"]  # system jobs: it must be this one
                    if not node_id or node_id in refused[w["group"]]:
                        node = self.picture.choose(refused[w["group"]]) if not node_id else None
                        node_id = node["id"] if node else ""
                    if node_id and len(plan) < 512:
                        plan.append({"group": w["group"], "index": index, "node_id": node_id})
                        self.picture.note("%s/%s/%d" % (eval_id, w["group"], index), node_id)  # until it is answered
            if not plan:
                break
            try:
                answer = self.api.post("/v1/scheduler/plan", {"lease": self.lease, "evaluation_id": eval_id,
                                                              "placements": plan})
            finally:
                for p in plan:
                    with self.picture.lock:
                        self.picture.allocs.pop("%s/%s/%d" % (eval_id, p["group"], p["index"]), None)
            for p, result in zip(plan, answer["placements"]):
                if "committed" in result:
                    done = result["committed"]
                    self.picture.note(done["alloc_id"], done["node_id"])
                    print("placed %s.%s[%d] on %s" % (name, p["group"], p["index"], done["node_name"]), flush=True)
                elif result["conflict"]["reason"] != "not_wanted":
                    last = result["conflict"]["problem"]["reason"]
                    refused[p["group"]].add(p["node_id"])
                    print("conflict, %s: %s" % (result["conflict"]["reason"], last), flush=True)
            if answer["done"]:
                return
            wanted = answer["wanted"]
        # It waits now, with this reason, until something is freed or a node changes.
        self.api.post("/v1/scheduler/release", {"lease": self.lease, "evaluation_id": eval_id,
                                                "reason": last or "no node is ready",
                                                "remedies": ["add a node, or stop something"]})

    def renew(self):
        """Keeps the registration and all claims while work is being done."""
        api = API(",".join(self.api.addresses))
        while True:
            time.sleep(self.ttl / 3)
            try:
                if self.lease:
                    api.post("/v1/scheduler/renew", {"lease": self.lease, "all": True})
            except Problem:
                pass  # the next call of the main loop meets it, and knows what to do

    def leave(self):
        if self.lease:
            self.api.post("/v1/scheduler/deregister", {"lease": self.lease})
            print("deregistered", flush=True)


def main():
    flags = argparse.ArgumentParser(description="A scheduler for Berth: fewest allocations first, rack by rack.")
    flags.add_argument("-api", default="http://127.0.0.1:7460", help="HTTP addresses of servers, with commas between")
    flags.add_argument("-name", default="example", help="what jobs call it: scheduler = NAME")
    flags.add_argument("-ttl", type=int, default=10, help="seconds that its leases last without being renewed")
    args = flags.parse_args()
    scheduler = Scheduler(API(args.api), args.name, args.ttl)

    def end(*_):
        raise SystemExit(0)
    signal.signal(signal.SIGTERM, end)
    try:
        scheduler.run()
    except (SystemExit, KeyboardInterrupt):
        try:
            scheduler.leave()
        except Problem as e:
            print("leaving:", e, "- the leases run out by themselves", flush=True)
        sys.exit(0)


if __name__ == "__main__":
    main()
