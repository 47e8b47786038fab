# A web service: three instances on different nodes, each on a port that Berth chooses.
#
#   go build -o /tmp/hello ./examples/hello
#   berth job run -var hello=/tmp/hello examples/web.hcl
#
variable "hello" {
  type        = string
  default     = "/usr/local/bin/hello"
  description = "Where the program lies on every node (examples/hello)."
}

job "web" {
  group "web" {
    count = 3

    spread {
      attribute = "node.name"
    }

    restart {
      attempts = 5
      interval = "1m"
      delay    = "500ms"
    }

    network {
      port "http" {}
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
        cpu    = "100m" # a tenth of a core, shared
        memory = "64MiB"
      }
    }
  }
}
