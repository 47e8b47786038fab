# A web service whose new versions are rolled out: first a canary, which gets no traffic
# until it is promoted, then one instance after the other. A version that does not become
# healthy is taken back by itself.
#
#   go build -o /tmp/hello ./examples/hello
#   berth job run -var hello=/tmp/hello examples/rollout.hcl
#
# A new version, by hand (berth job plan with the same words shows it before it happens):
#
#   berth job run -var hello=/tmp/hello -var version=v2 examples/rollout.hcl
#   berth deployment promote DEPLOYMENT   # as it says when the canary is healthy
#
# One that does not work; its canary is never healthy, and the job goes back to the last good one:
#
#   berth job run -var hello=/tmp/hello -var version=v3 -var broken=true examples/rollout.hcl
#
variable "hello" {
  type        = string
  default     = "/usr/local/bin/hello"
  description = "Where the program lies on every node (examples/hello)."
}

variable "version" {
  type        = string
  default     = "v1"
  description = "What the program calls itself."
}

variable "broken" {
  type        = bool
  default     = false
  description = "Whether this version says that it is not well."
}

job "shop" {
  group "web" {
    count = 3

    update {
      max_parallel     = "1"      # so many are replaced at a time
      canary           = "1"      # beside the old ones; "100%" is blue-green
      promote          = "manual" # by berth deployment promote; "healthy": by itself
      min_healthy_time = "1s"     # its checks have passed for so long: it is healthy
      healthy_deadline = "10s"    # they have not by then: it is unhealthy

      # The roll-out fails with the first unhealthy instance. A longer time gives more of
      # them a chance: it fails when none has become healthy for so long.
      progress_deadline = "0s"
      auto_revert       = true # then back to the newest version that was rolled out well
    }

    # An instance leaves discovery before it is stopped, so that whoever has just looked it
    # up is still served.
    shutdown_delay = "2s"

    spread {
      attribute = "node.name"
    }

    network {
      port "http" {}
    }

    service "shop" {
      port = "http"

      check "http" {
        path     = "/healthz"
        interval = "1s"
        timeout  = "1s"
      }
    }

    task "server" {
      driver = "exec"

      config {
        command = "/hello"

        mount {
          host_path = var.hello
          path      = "/hello"
        }
      }

      env {
        VERSION = var.version
        BROKEN  = var.broken
      }

      resources {
        cpu    = "50m"
        memory = "32MiB"
      }
    }
  }
}
