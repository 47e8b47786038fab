# A job that wants cores of its own: a whole physical core with its threads, and memory
# from the same cell (NUMA node). Berth pins it; nobody else runs there.
#
#   berth job run examples/pinned.hcl
#   berth alloc exec ALLOC grep Cpus_allowed_list /proc/self/status
#
job "pinned" {
  group "worker" {
    topology {
      policy = "single"
    }

    task "spin" {
      driver = "exec"

      config {
        command = "/bin/sleep"
        args    = ["infinity"]
      }

      resources {
        cores  = 1
        memory = "128MiB"
      }
    }
  }
}
