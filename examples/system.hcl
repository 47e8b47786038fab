# A system job: one instance on every node, now and on those that join later.
#
#   berth job run examples/system.hcl
#
job "watch-load" {
  type = "system"

  group "watch" {
    task "loop" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "while true; do echo \"$BERTH_NODE_NAME: $(cut -d' ' -f1 /proc/loadavg)\"; sleep 5; done"]
      }

      resources {
        cpu    = "50m"
        memory = "16MiB"
      }
    }
  }
}
