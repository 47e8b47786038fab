# Check it with: berth job validate FILE    Run it with: berth job run FILE
job "example" {
  group "web" {
    count = 1

    network {
      port "http" {} # chosen on the node; the task finds it as BERTH_PORT_HTTP
    }

    task "server" {
      driver = "exec"

      config {
        command = "/usr/bin/python3"
        args    = ["-m", "http.server", "${BERTH_PORT_HTTP}"]
      }

      resources {
        cpu    = "200m" # a fifth of a core
        memory = "128MiB"
      }
    }
  }
}
