# Files made of what the agent knows: the node, the instances of a service, a variable. They
# are rendered anew when that changes, and the task is told.
#
#   berth job run examples/template.hcl
#   berth alloc logs ALLOC            (of the group "reader")
#   berth var put greeting name=Ada   (the reader reads its file again)
#
job "template" {
  group "web" {
    count = 2

    network {
      port "http" {}
    }

    service "template-web" {
      port = "http"
      tags = ["blue"]
    }

    task "web" {
      driver = "exec"

      # Without a checksum there would be a warning: whatever is there then would be run.
      #
      #   artifact {
      #     source   = "https://example.com/site-1.2.tar.gz"
      #     checksum = "sha256:..."
      #   }

      config {
        command = "/bin/sh"
        args    = ["-c", "while :; do sleep 1; done"]
      }
    }
  }

  group "reader" {
    task "reader" {
      driver = "exec"

      # It waits until an instance is ready, and is written again when another one comes.
      template {
        destination   = "local/backends.conf"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        splay         = "1s"
        data          = <<-TEMPLATE
          # for {{ .alloc.name }} on {{ .node.name }}
          {{ range service "template-web" "blue" -}}
          server {{ .address }}:{{ .port }}
          {{ end -}}
        TEMPLATE
      }

      # A variable that need not be there. Its lines become environment variables; they only
      # change with a restart.
      template {
        destination = "local/env"
        env         = true
        splay       = "1s"
        data        = <<-TEMPLATE
          GREETING="Hello, {{ default "world" (index (tryVar "greeting") "name") }}"
        TEMPLATE
      }

      config {
        command = "/bin/sh"
        args = ["-c", <<-SCRIPT
          trap 'echo again; cat local/backends.conf' HUP
          echo "$GREETING"
          cat local/backends.conf
          while :; do sleep 0.1; done
        SCRIPT
        ]
      }
    }
  }
}
