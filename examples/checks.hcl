# A web service that is asked how it is: who is not ready gets no traffic, who does not
# live is started again, and a new version counts as good when its checks pass.
#
#   go build -o /tmp/hello ./examples/hello
#   berth job run -var hello=/tmp/hello examples/checks.hcl
#
variable "hello" {
  type        = string
  default     = "/usr/local/bin/hello"
  description = "Where the program lies on every node (examples/hello)."
}

job "checks" {
  group "web" {
    count = 2

    # An instance of a new version is healthy when its readiness checks have passed for 3 s
    # on end, and unhealthy when that has not come about within a minute.
    update {
      min_healthy_time = "3s"
      healthy_deadline = "1m"
    }

    # Told to stop, it leaves discovery at once and goes on for 2 s more, so that whoever
    # has just looked it up is still served.
    shutdown_delay = "2s"

    # A task that does not live is started again by this policy.
    restart {
      attempts = 5
      interval = "5m"
      delay    = "1s"
    }

    network {
      port "http" {}
    }

    service "web" {
      port = "http"
      tags = ["example"]

      meta {
        node = "${node.name}"
      }

      # Readiness, which is what checks are for unless they say otherwise.
      check "http" {
        path     = "/healthz"
        interval = "2s"
        timeout  = "1s"
      }

      # Inside the task: exit code 0 is good.
      check "files" {
        type     = "script"
        task     = "server"
        command  = ["/bin/sh", "-c", "test ! -e $BERTH_TASK_DIR/maintenance || { echo 'under maintenance'; exit 1; }"]
        interval = "2s"
      }

      # Liveness: after 3 failures in a row the task is started again.
      check "alive" {
        type         = "tcp"
        on           = "liveness"
        interval     = "5s"
        start_period = "10s"
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

      resources {
        cpu    = "100m"
        memory = "64MiB"
      }
    }
  }
}
