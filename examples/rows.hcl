# A job for each row of a table: the columns are the spec's variables.
#
#   berth job run examples/rows.hcl -rows examples/rows.csv
#   berth job status
#
# Every row is checked before the first one is submitted; at the end there is a result for each.

variable "name" { default = "one" }

variable "count" { default = 1 }

variable "memory" { default = "32MiB" }

job {
  # A label is fixed; a name that depends on a variable is written inside.
  name = "worker-${var.name}"

  group "worker" {
    count = var.count

    task "loop" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "while :; do echo \"${var.name} at work\"; sleep 5; done"]
      }

      resources {
        cpu    = "50m"
        memory = var.memory
      }
    }
  }
}
