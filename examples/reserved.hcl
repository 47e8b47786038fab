# Runs on the nodes of a reservation, on x86 and ARM by share. On a `berth agent -dev`:
#
#   berth reservation create examples NODE -job reserved     (NODE: see berth node status)
#   berth node taint NODE -add dedicated=examples            (only to see the toleration at work)
#   berth job run examples/reserved.hcl
#   berth job stop reserved; berth reservation delete examples; berth node taint NODE -remove dedicated
job "reserved" {
  reservation = "examples"

  # Three quarters on x86, the rest on ARM; where there is only one, all of it there.
  arch_weight "amd64" { weight = 3 }
  arch_weight "arm64" { weight = 1 }

  # The nodes may be kept for examples.
  toleration {
    key   = "dedicated"
    value = "examples"
  }

  group "sleepers" {
    count = 4
    task "sleep" {
      driver = "exec"
      config {
        command = "/bin/sleep"
        args    = ["3600"]
      }
      resources {
        cpu    = "50m"
        memory = "16MiB"
      }
    }
  }
}
