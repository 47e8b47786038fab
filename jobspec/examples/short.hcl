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
        command = "/bin/sh" # stands for your program, which would listen on that port
        args    = ["-c", "while true; do echo \"$BERTH_ALLOC_NAME has port $BERTH_PORT_HTTP\"; sleep 5; done"]
      }

      resources {
        cpu    = "200m" # a fifth of a core
        memory = "128MiB"
      }
    }
  }
}
